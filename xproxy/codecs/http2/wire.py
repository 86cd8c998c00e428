"""Frames as bytes (RFC 9113 §§4, 6)."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from struct import Struct
from typing import Final

from xproxy.codecs.http2.faults import ConnectionFault
from xproxy.codecs.http2.limits import MAX_FRAME_BYTES, MAX_WINDOW
from xproxy.codecs.http2.status import ErrorCode

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client says first (RFC 9113 §3.4)."""

HEADER_BYTES: Final = 9
HEADER: Final = Struct(">BHBBI")
"""Length (1 + 2 bytes), kind, flags, reserved bit and stream id."""
_PAIR: Final = Struct(">HI")
_LONG: Final = Struct(">I")
_GOAWAY: Final = Struct(">II")

# Kinds of frames, as plain numbers: the reader compares them for every frame.
DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

STREAM_BITS: Final = 0x7FFF_FFFF


class Setting(enum.IntEnum):
    """RFC 9113 §6.5.2, RFC 8441 §3."""

    HEADER_TABLE_SIZE = 0x1
    ENABLE_PUSH = 0x2
    MAX_CONCURRENT_STREAMS = 0x3
    INITIAL_WINDOW_SIZE = 0x4
    MAX_FRAME_SIZE = 0x5
    MAX_HEADER_LIST_SIZE = 0x6
    ENABLE_CONNECT_PROTOCOL = 0x8


SETTINGS_ACK: Final = HEADER.pack(0, 0, SETTINGS, ACK, 0)


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    """Return a frame."""
    size = len(payload)
    return HEADER.pack(size >> 16, size & 0xFFFF, kind, flags, stream_id) + payload


def settings(values: Sequence[tuple[int, int]]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join([_PAIR.pack(*pair) for pair in values]))


def window_update(stream_id: int, increment: int) -> bytes:
    """Return a WINDOW_UPDATE frame; stream 0 is the connection."""
    return HEADER.pack(0, 4, WINDOW_UPDATE, 0, stream_id) + _LONG.pack(increment)


def rst_stream(stream_id: int, code: int) -> bytes:
    """Return a RST_STREAM frame."""
    return HEADER.pack(0, 4, RST_STREAM, 0, stream_id) + _LONG.pack(code)


def goaway(last_stream_id: int, code: int, debug: bytes = b"") -> bytes:
    """Return a GOAWAY frame."""
    return frame(GOAWAY, 0, 0, _GOAWAY.pack(last_stream_id, code) + debug)


def ping(payload: bytes, *, ack: bool = False) -> bytes:
    """Return a PING frame; ``payload`` is 8 bytes."""
    return HEADER.pack(0, 8, PING, ACK if ack else 0, 0) + payload


def data_frames(stream_id: int, data: bytes, longest: int, *, end: bool) -> bytes:
    """Return a body, or a piece of one, in DATA frames of at most ``longest`` bytes."""
    size = len(data)
    last = END_STREAM if end else 0
    if size <= longest:
        return HEADER.pack(size >> 16, size & 0xFFFF, DATA, last, stream_id) + data
    parts: list[bytes] = []
    for start in range(0, size, longest):
        piece = data[start : start + longest]
        parts.append(frame(DATA, last if start + longest >= size else 0, stream_id, piece))
    return b"".join(parts)


def header_frames(stream_id: int, block: bytes, longest: int, *, end: bool) -> bytes:
    """Return a header block in one HEADERS frame, and CONTINUATION frames where it is above ``longest`` bytes."""
    size = len(block)
    flags = END_STREAM if end else 0
    if size <= longest:
        return (
            HEADER.pack(size >> 16, size & 0xFFFF, HEADERS, flags | END_HEADERS, stream_id) + block
        )
    parts = [frame(HEADERS, flags, stream_id, block[:longest])]
    for start in range(longest, size, longest):
        last = END_HEADERS if start + longest >= size else 0
        parts.append(frame(CONTINUATION, last, stream_id, block[start : start + longest]))
    return b"".join(parts)


def unpadded(flags: int, payload: bytes) -> bytes:
    """Return a payload without its padding (RFC 9113 §6.1). Raises ConnectionFault."""
    if not flags & PADDED:
        return payload
    if not payload:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a padded frame without its pad length")
    padding = payload[0]
    if padding >= len(payload):
        raise ConnectionFault(
            ErrorCode.PROTOCOL_ERROR, f"padding of {padding} bytes in a frame of {len(payload)}"
        )
    return payload[1 : len(payload) - padding]


def read_long(payload: bytes) -> int:
    """Return the number in a RST_STREAM."""
    value: int = _LONG.unpack(payload)[0]
    return value


def read_increment(payload: bytes) -> int:
    """Return the increment of a WINDOW_UPDATE, without its reserved bit."""
    return read_long(payload) & STREAM_BITS


def read_goaway(payload: bytes) -> tuple[int, int]:
    """Return (last stream id, error code)."""
    last, code = _GOAWAY.unpack_from(payload)
    return last & STREAM_BITS, code


def read_settings(payload: bytes, most: int) -> dict[int, int]:
    """Return the values of a SETTINGS frame, each checked; of a setting given twice the last (RFC 9113 §6.5.3).

    Raises ConnectionFault.
    """
    if len(payload) % _PAIR.size:
        raise ConnectionFault(
            ErrorCode.FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes, which is not sixes"
        )
    if len(payload) > most * _PAIR.size:
        raise ConnectionFault(
            ErrorCode.ENHANCE_YOUR_CALM,
            f"SETTINGS with {len(payload) // _PAIR.size} values, limit {most}",
            "max_settings",
        )
    values: dict[int, int] = {}
    for identifier, value in _PAIR.iter_unpack(payload):
        _check_setting(identifier, value)
        values[identifier] = value
    return values


def table_sizes(payload: bytes) -> list[int]:
    """Return each HEADER_TABLE_SIZE of a SETTINGS frame: the last one counts, and the smallest (RFC 7541 §4.2)."""
    pairs = _PAIR.iter_unpack(payload)
    return [value for identifier, value in pairs if identifier == Setting.HEADER_TABLE_SIZE]


def _check_setting(identifier: int, value: int) -> None:
    if identifier in (Setting.ENABLE_PUSH, Setting.ENABLE_CONNECT_PROTOCOL):
        if value > 1:
            raise ConnectionFault(
                ErrorCode.PROTOCOL_ERROR, f"setting {identifier} is {value}, neither 0 nor 1"
            )
    elif identifier == Setting.INITIAL_WINDOW_SIZE:
        if value > MAX_WINDOW:
            raise ConnectionFault(
                ErrorCode.FLOW_CONTROL_ERROR, f"INITIAL_WINDOW_SIZE {value}, limit {MAX_WINDOW}"
            )
    elif identifier == Setting.MAX_FRAME_SIZE and not 16384 <= value <= MAX_FRAME_BYTES:
        raise ConnectionFault(
            ErrorCode.PROTOCOL_ERROR, f"MAX_FRAME_SIZE {value}, not 16384 to {MAX_FRAME_BYTES}"
        )
