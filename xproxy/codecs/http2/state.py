"""A stream's state, and what may arrive in it (RFC 9113 §5.1).

Rule of this file: whatever decides whether a frame may arrive for a stream that is not simply open stands in the
table at its end. The tests try every pair.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

import attrs

from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.table import Field
from xproxy.codecs.http2.wire import DATA, HEADERS, RST_STREAM, WINDOW_UPDATE


class Stage(enum.Enum):
    """How far the connection is."""

    MAGIC = "magic"
    """The client's preface is awaited (server only)."""
    SETTINGS = "settings"
    """The peer's first SETTINGS is awaited (RFC 9113 §3.4)."""
    RUNNING = "running"
    ENDED = "ended"
    """A violation, or the end of input: nothing more is read."""


class Drain(enum.Enum):
    """How far our own goodbye is."""

    NONE = "none"
    ANNOUNCED = "announced"
    """GOAWAY without a bound is out, and a PING behind it: what crosses it on its way is still served."""
    FINAL = "final"
    """GOAWAY with the last stream that is served is out."""


class Stream:
    """A stream that is open in at least one direction."""

    __slots__ = (
        "call",
        "connect",
        "expected",
        "grown",
        "headed",
        "inbound",
        "muted",
        "opened",
        "outbound",
        "owed",
        "owing",
        "receiving",
        "sending",
        "spoken",
        "unanswered",
        "unconsumed",
        "upgrade",
        "web_call",
    )

    def __init__(self, *, receiving: bool, sending: bool) -> None:
        self.receiving = receiving
        """The peer's message has not ended."""
        self.sending = sending
        """Our message has not ended."""
        self.headed = False
        """The peer's head is here, and it was not an interim one."""
        self.spoken = False
        """Our head is out, and it was not an interim one."""
        self.muted = False
        """Our body is dropped: the method is HEAD, or our status code forbids one (server only)."""
        self.unanswered = False
        """The response can have no body: the method is HEAD (client only)."""
        self.connect = False
        """The method is CONNECT."""
        self.upgrade = False
        """It is CONNECT for a protocol (RFC 8441): what grants it is 200 on the wire, and 101 elsewhere."""
        self.call = False
        """The request is a call (gRPC): its outcome is told in fields of its own."""
        self.web_call = False
        """It is one in the dialect of browsers (server only)."""
        self.expected = -1
        """Body bytes that the peer declared and did not send yet; -1: it declared nothing."""
        self.owing = -1
        """Body bytes that our head declared and we did not send yet; -1: nothing declared."""
        self.inbound = 0
        """Bytes that the peer may send, less the initial window we announced."""
        self.outbound = 0
        """Bytes that we may send, less the initial window the peer announced."""
        self.grown = 0
        """Bytes by which its window for the peer is larger than at first."""
        self.owed = 0
        """Bytes consumed for which the stream got no credit yet."""
        self.opened = 0
        """When the peer opened it, in ``Guard.now``'s milliseconds (server only)."""
        self.unconsumed = 0
        """Body bytes delivered that nobody has consumed yet."""


@attrs.define(eq=False)
class Waiting:
    """A request that waits for a stream."""

    fields: list[Field]
    declared: int
    head_method: bool
    connect: bool
    upgrade: bool
    call: bool
    end: bool
    """It has no body, or one that turned out empty."""
    trailers: list[Field] = attrs.field(factory=list)


class Standing(enum.Enum):
    """What a stream is to us that takes no more of the peer's message."""

    IDLE = "idle"
    """Nobody opened it."""
    ENDED_BY_PEER = "half-closed (remote)"
    """The peer ended its message, and we have not ended ours."""
    ABANDONED = "closed, by our RST_STREAM"
    """What the peer sent before it knew is still on its way."""
    CLOSED = "closed"
    """Both messages ended, or the peer reset it."""


class Verdict(enum.Enum):
    """What is done about a frame."""

    TAKE = "take"
    IGNORE = "ignore"
    STREAM = "stream error"
    CONNECTION = "connection error"


_IGNORED: Final = (Verdict.IGNORE, ErrorCode.NO_ERROR)
_TAKEN: Final = (Verdict.TAKE, ErrorCode.NO_ERROR)
_UNOPENED: Final = (Verdict.CONNECTION, ErrorCode.PROTOCOL_ERROR)
_OVER: Final = (Verdict.STREAM, ErrorCode.STREAM_CLOSED)
_GONE: Final = (Verdict.CONNECTION, ErrorCode.STREAM_CLOSED)

ARRIVALS: Final[Mapping[tuple[Standing, int], tuple[Verdict, ErrorCode]]] = {
    # A server opens a stream by HEADERS before it looks here: for a client there is none to open.
    (Standing.IDLE, HEADERS): _UNOPENED,
    (Standing.IDLE, DATA): _UNOPENED,
    (Standing.IDLE, RST_STREAM): _UNOPENED,
    (Standing.IDLE, WINDOW_UPDATE): _UNOPENED,
    (Standing.ENDED_BY_PEER, HEADERS): _OVER,
    (Standing.ENDED_BY_PEER, DATA): _OVER,
    (Standing.ENDED_BY_PEER, RST_STREAM): _TAKEN,
    (Standing.ENDED_BY_PEER, WINDOW_UPDATE): _TAKEN,
    (Standing.ABANDONED, HEADERS): _IGNORED,
    (Standing.ABANDONED, DATA): _IGNORED,
    (Standing.ABANDONED, RST_STREAM): _IGNORED,
    (Standing.ABANDONED, WINDOW_UPDATE): _IGNORED,
    # After the peer's own RST_STREAM it is a stream error, which an endpoint may make the connection's (§5.4).
    (Standing.CLOSED, HEADERS): _GONE,
    (Standing.CLOSED, DATA): _GONE,
    (Standing.CLOSED, RST_STREAM): _IGNORED,
    (Standing.CLOSED, WINDOW_UPDATE): _IGNORED,
}
"""PRIORITY may arrive at any time (RFC 9113 §5.3.2)."""


class Past:
    """What is remembered of streams that are over: as much as it takes to tell their kinds apart. Bounded."""

    __slots__ = ("abandoned", "forgotten", "skipped")

    ABANDONED: Final = 1024
    SKIPPED: Final = 16

    def __init__(self) -> None:
        self.abandoned: dict[int, None] = {}
        """Streams that we reset, oldest first."""
        self.forgotten = 0
        """Streams up to here may have been reset by us too: frames for them are given the benefit of the doubt."""
        self.skipped: list[tuple[int, int]] = []
        """Ids never used, though higher ones were: (first, last), oldest first (RFC 9113 §5.1.1)."""

    def abandon(self, stream_id: int) -> None:
        """Note that we reset a stream."""
        abandoned = self.abandoned
        abandoned[stream_id] = None
        if len(abandoned) > self.ABANDONED:
            oldest = next(iter(abandoned))
            del abandoned[oldest]
            self.forgotten = max(self.forgotten, oldest)

    def skip(self, first: int, last: int) -> None:
        """Note that ids were left out."""
        self.skipped.append((first, last))
        if len(self.skipped) > self.SKIPPED:
            del self.skipped[0]

    def standing(self, stream_id: int) -> Standing:
        """Return what a stream is that was opened once, or passed over."""
        if stream_id in self.abandoned or stream_id <= self.forgotten:
            return Standing.ABANDONED
        if any(first <= stream_id <= last for first, last in self.skipped):
            return Standing.IDLE
        return Standing.CLOSED
