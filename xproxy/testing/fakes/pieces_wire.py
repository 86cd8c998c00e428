"""``pieces`` on the wire: its frames and what is packed in them. The table is in ``pieces.py``."""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from typing import Any, Final

import msgpack

from xproxy.model.errors import LocalProtocolError
from xproxy.model.headers import Headers
from xproxy.model.limits import KIB, Limits
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role

PREFACE: Final = b"\xf5PIECES\n"
FRAME: Final = struct.Struct(">BBII")
CREDIT: Final = struct.Struct(">I")
MAX_DATA: Final = 16 * KIB
"""Body bytes in one frame."""


class Kind(enum.IntEnum):
    """What a frame is."""

    HEAD = 1
    DATA = 2
    TRAILERS = 3
    RESET = 4
    CREDIT = 5
    PING = 6
    PONG = 7
    GOAWAY = 8


class Bad(Exception):
    """The peer broke the protocol; becomes a Violation."""


def check_frame(kind: int, size: int, limits: Limits) -> None:
    """Check a frame's kind and declared length before its payload is there. Raises Bad."""
    most: dict[int, int] = {
        Kind.HEAD: limits.max_head_bytes,
        Kind.TRAILERS: limits.max_head_bytes,
        Kind.DATA: MAX_DATA,
        Kind.RESET: 1,
        Kind.CREDIT: CREDIT.size,
    }
    if not Kind.HEAD <= kind <= Kind.GOAWAY:
        raise Bad(f"unknown kind of frame {kind}")
    if size > (limit := most.get(kind, 0)):
        raise Bad(f"a {Kind(kind).name} frame declares {size} bytes, limit {limit}")


def unpack(payload: bytes) -> Any:  # Any: whatever the peer packed; the caller matches it
    """Return what ``payload`` holds. Raises Bad."""
    try:
        return msgpack.unpackb(payload, unicode_errors="surrogateescape", strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException) as exc:
        raise Bad("a payload is not msgpack") from exc


def read_head(
    payload: bytes, role: Role, limits: Limits
) -> tuple[RequestHead | ResponseHead, bool]:
    """Return the head, and whether it is interim. Raises Bad."""
    match unpack(payload), role:
        case [str(service), str(method), list(fields)], Role.SERVER:
            headers = read_fields(fields, limits)
            return RequestHead(service=service, method=method, headers=headers), False
        case [int(code), bool(interim), list(fields)], Role.CLIENT:
            status = status_of(code)
            headers = read_fields(fields, limits)
            return ResponseHead(status=status, native_status=code, headers=headers), interim
        case _:
            raise Bad("a head does not hold what it must")


def read_fields(fields: Sequence[object], limits: Limits) -> Headers:
    """Return the fields. Raises Bad."""
    if len(fields) > limits.max_headers:
        raise Bad(f"{len(fields)} fields, limit {limits.max_headers} (max_headers)")
    pairs = []
    for field in fields:
        match field:
            case [str(name), str(value)]:
                pairs.append((name, value))
            case _:
                raise Bad("a field is not a pair of texts")
    return Headers(pairs)


def pack(kind: Kind, flags: int, stream_id: int, content: object, limits: Limits) -> bytes:
    """Return a frame with ``content`` packed. Raises LocalProtocolError."""
    try:
        payload = msgpack.packb(content, unicode_errors="surrogateescape")
    except (UnicodeError, OverflowError) as exc:
        raise LocalProtocolError("a text or number of the head has no bytes") from exc
    if len(payload) > limits.max_head_bytes:
        raise LocalProtocolError(f"head is {len(payload)} bytes, limit {limits.max_head_bytes}")
    return FRAME.pack(kind, flags, stream_id, len(payload)) + bytes(payload)


def pack_reset(stream_id: int, status: Status) -> bytes:
    """Return a reset."""
    return FRAME.pack(Kind.RESET, 0, stream_id, 1) + bytes((status.value,))


def pack_body(stream_id: int, data: bytes, end: bool) -> bytes:
    """Return as many frames as the body bytes need."""
    pieces = [data[i : i + MAX_DATA] for i in range(0, len(data), MAX_DATA)] or [b""]
    flags = [0] * (len(pieces) - 1) + [int(end)]
    return b"".join(
        FRAME.pack(Kind.DATA, flag, stream_id, len(piece)) + piece
        for piece, flag in zip(pieces, flags, strict=True)
    )


def status_of(native_status: int) -> Status:
    """Return the neutral status; numbers that are none are UNKNOWN."""
    try:
        return Status(native_status)
    except ValueError:
        return Status.UNKNOWN
