"""Frames of a link: kind (1 byte), length (4), stream id (8), and so many bytes.

==  ========  ====  ====================================================================================
1   HEAD      both  msgpack of a head, and of a whole body of at most 64 KiB; see ``heads.py``
2   DATA      both  a piece of a body, at most 64 KiB, and towards the client at most what CREDIT lets through
3   END       both  the message ends
4   TRAILERS  both  msgpack of (status or nil, fields); the message ends
5   RESET     both  status (1 byte), refused (1 byte)
6   CREDIT    down  4 bytes: so many more body bytes may be sent to the client
7   CONSUMED  up    4 bytes: so many body bytes of the client were taken, and it may have credit for them
8   GOAWAY    up    the client is to be told that no more streams will be served
9   MESSAGE   up    a piece of a whole message as it goes to the client, at most 64 KiB; END follows the last
10  BYE       up    all is said: the sender's streams have ended
==  ========  ====  ====================================================================================

*Up* is from the process that serves the streams to the one that has the connection.
"""

from __future__ import annotations

import enum
import struct
from typing import Final

from xproxy.model.errors import LocalProtocolError
from xproxy.model.limits import KIB, Limits
from xproxy.model.status import Status

FRAME: Final = struct.Struct(">BIQ")
COUNT: Final = struct.Struct(">I")
MAX_DATA: Final = 64 * KIB
"""Body bytes of one frame."""
LARGEST_ID: Final = 2**64 - 1


class Kind(enum.IntEnum):
    """What a frame is."""

    HEAD = 1
    DATA = 2
    END = 3
    TRAILERS = 4
    RESET = 5
    CREDIT = 6
    CONSUMED = 7
    GOAWAY = 8
    MESSAGE = 9
    BYE = 10


class Malformed(Exception):
    """The other process breaks the protocol; becomes a Violation."""


def longest(kind: int, limits: Limits) -> int:
    """Return how many bytes a frame of this kind may have. Raises Malformed for a kind that there is not."""
    if kind == Kind.HEAD:
        return limits.max_head_bytes + MAX_DATA
    if kind == Kind.TRAILERS:
        return limits.max_head_bytes
    if kind in (Kind.DATA, Kind.MESSAGE):
        return MAX_DATA
    if kind in (Kind.CREDIT, Kind.CONSUMED):
        return COUNT.size
    if kind == Kind.RESET:
        return 2
    if kind in (Kind.END, Kind.GOAWAY, Kind.BYE):
        return 0
    raise Malformed(f"unknown kind of frame {kind}")


def pack(kind: Kind, stream_id: int, payload: bytes = b"") -> bytes:
    """Return a frame. Raises LocalProtocolError for an id that has no bytes."""
    if not 0 <= stream_id <= LARGEST_ID:
        raise LocalProtocolError(f"stream id {stream_id} is not 0 … {LARGEST_ID}")
    return FRAME.pack(kind, len(payload), stream_id) + payload


def pack_body(kind: Kind, stream_id: int, data: bytes) -> bytes:
    """Return as many frames of ``kind`` as the bytes need: none for none."""
    if len(data) <= MAX_DATA:
        return pack(kind, stream_id, data) if data else b""
    return b"".join(
        pack(kind, stream_id, data[at : at + MAX_DATA]) for at in range(0, len(data), MAX_DATA)
    )


def pack_reset(stream_id: int, status: Status, *, refused: bool) -> bytes:
    """Return a reset."""
    return pack(Kind.RESET, stream_id, bytes((status.value, refused)))


def read_reset(payload: bytes) -> tuple[Status, bool]:
    """Return what a reset says. Raises Malformed."""
    if len(payload) != 2 or payload[0] > Status.UNAUTHENTICATED.value or payload[1] > 1:
        raise Malformed("a reset does not say why")
    return Status(payload[0]), payload[1] == 1


def read_count(payload: bytes) -> int:
    """Return a number of bytes. Raises Malformed."""
    if len(payload) != COUNT.size:
        raise Malformed("a count is 4 bytes")
    count: int = COUNT.unpack(payload)[0]
    return count
