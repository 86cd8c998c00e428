"""The health service: its messages, for who answers it here and who asks it of others (grpc/doc/health-checking.md).

``HealthCheckRequest { string service = 1 }``, ``HealthCheckResponse { ServingStatus status = 1 }``: so little of
Protocol Buffers that it is written here.
"""

from __future__ import annotations

import enum
from typing import Final

from xproxy.codecs.layout import write_varint

SERVICE: Final = "grpc.health.v1.Health"
CHECK: Final = "Check"
WATCH: Final = "Watch"
PATH: Final = f"/{SERVICE}/{CHECK}"

_STRING_1: Final = 0x0A
_VARINT_1: Final = 0x08
_MOST_VARINT_BYTES: Final = 10


class Serving(enum.IntEnum):
    """What a service says of itself."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3
    """Only in answers to ``Watch``; ``Check`` fails as not found."""


class NotHealth(ValueError):
    """Bytes that are not the message expected."""


def encode_request(service: str) -> bytes:
    """Write the question after ``service``; empty: after the server as a whole."""
    name = service.encode("utf-8", "replace")
    return bytes((_STRING_1,)) + write_varint(len(name)) + name if name else b""


def decode_request(message: bytes) -> str:
    """Return the service that is asked about. Raises NotHealth."""
    name = b""
    position = 0
    while position < len(message):
        key, position = _read_varint(message, position)
        value, position = _skip(message, position, key & 7)
        if key == _STRING_1:
            name = value  # the last one counts
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise NotHealth("the name of the service is not UTF-8") from exc


def encode_response(serving: Serving) -> bytes:
    """Write the answer."""
    return bytes((_VARINT_1, serving)) if serving else b""


def decode_response(message: bytes) -> Serving:
    """Return what a server said; a state that nobody knows is UNKNOWN. Raises NotHealth."""
    found = 0
    position = 0
    while position < len(message):
        key, position = _read_varint(message, position)
        if key == _VARINT_1:
            found, position = _read_varint(message, position)
        else:
            _, position = _skip(message, position, key & 7)
    return Serving(found) if found in _KNOWN else Serving.UNKNOWN


_KNOWN: Final = frozenset(int(one) for one in Serving)


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    number = 0
    for count in range(_MOST_VARINT_BYTES):
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        number |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return number, position
    raise NotHealth("a number that does not end")


def _skip(message: bytes, position: int, kind: int) -> tuple[bytes, int]:
    """Return the bytes of a field's value, and where the next field begins. Raises NotHealth."""
    if kind == 0:
        end = _read_varint(message, position)[1]
    elif kind == 1:
        end = position + 8
    elif kind == 2:
        length, position = _read_varint(message, position)
        end = position + length
    elif kind == 5:
        end = position + 4
    else:
        raise NotHealth(f"a field of kind {kind}")
    if end > len(message):
        raise NotHealth("the message ends in the middle of a field")
    return message[position:end], end
