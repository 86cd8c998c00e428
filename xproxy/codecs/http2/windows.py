"""Windows (RFC 9113 §5.2, §6.9): what the peer may send us and what we owe it, and what we may send.

The connection's window holds nobody back: its credit is given as bytes arrive. Else streams whose consumers take
nothing would use it up, and all others on the connection would wait for these strangers. What holds a body back that
nobody takes is its stream's window.

So memory is bounded by the streams' windows, and these are small at first (``first_window_bytes``). A stream whose
consumer takes what comes gets a larger one, twice as large each time, up to ``stream_window_bytes``, as long as all
that was given so does not exceed ``connection_window_bytes``. Streams that stand still hold the little they had, or
what they got while they moved; a connection holds ``streams × first_window_bytes + connection_window_bytes`` at most.

Credit is given in large pieces, when half a window is owed, as each WINDOW_UPDATE is a frame and a wake-up for the
peer.

A stream's windows are kept as differences to the initial window of their direction. So a SETTINGS that changes that
changes all streams at once (§6.9.2), and costs the same with one stream open as with a thousand.
"""

from __future__ import annotations

from collections.abc import Iterable

from xproxy.codecs.http2.faults import ConnectionFault, StreamFault
from xproxy.codecs.http2.limits import FIRST_WINDOW, MAX_WINDOW, Http2Limits
from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.stream import Stream
from xproxy.codecs.http2.wire import window_update
from xproxy.model.errors import LocalProtocolError


class Windows:
    """The connection's windows, both ways, and the initial ones of its streams."""

    __slots__ = (
        "_first",
        "_half",
        "_most",
        "first_inbound",
        "first_outbound",
        "inbound",
        "outbound",
        "owed",
        "spare",
    )

    def __init__(self, limits: Http2Limits) -> None:
        target: int = limits.connection_window_bytes
        small = target <= FIRST_WINDOW
        self.inbound = FIRST_WINDOW if small else target
        """Bytes that the peer may still send."""
        self.owed = target - FIRST_WINDOW if small else 0
        """Bytes that came, for which no credit was given yet. Below 0: so many are held back."""
        self.spare = target
        """Bytes by which streams' windows may still grow."""
        self.first_inbound = FIRST_WINDOW
        """The initial window that the peer has acknowledged."""
        self.outbound = FIRST_WINDOW
        """Bytes that we may still send."""
        self.first_outbound = FIRST_WINDOW
        """The initial window that the peer announced."""
        self._half = target // 2 or 1
        self._first = limits.first_window
        self._most: int = limits.stream_window_bytes

    # -- what arrives -------------------------------------------------------------------------------------------

    def acknowledged(self) -> None:
        """The peer has taken our settings: our initial window holds, for the streams that are open too."""
        self.first_inbound = self._first

    def give(self, size: int) -> bytes:
        """Bytes came; returns the credit for them, which may be none for now."""
        self.owed += size
        if self.owed < self._half:
            return b""
        owed, self.owed = self.owed, 0
        self.inbound += owed
        return window_update(0, owed)

    def renew(self, stream_id: int, stream: Stream, count: int) -> bytes:
        """A stream's consumer took bytes; returns its credit: none, or what it took and more, as it is quick."""
        if not stream.state.receiving:
            return b""
        owed = stream.owed + count
        window = self._first + stream.grown
        if owed * 2 < window:
            stream.owed = owed
            return b""
        stream.owed = 0
        more = min(window, self._most - window, self.spare)
        if more > 0:
            stream.grown += more
            self.spare -= more
            owed += more
        stream.inbound += owed
        return window_update(stream_id, owed)

    # -- what leaves --------------------------------------------------------------------------------------------

    def room(self, stream: Stream) -> int:
        """Return how many body bytes may be sent on a stream: 0 or more."""
        return max(min(self.outbound, self.first_outbound + stream.outbound), 0)

    def check(self, stream: Stream, size: int) -> None:
        """Raise LocalProtocolError where there is no room for so many body bytes."""
        if size and (size > self.outbound or size > self.first_outbound + stream.outbound):
            raise LocalProtocolError(f"{size} bytes, the window lets {self.room(stream)} through")

    def widen(self, increment: int) -> bool:
        """The peer gave the connection credit; return whether that ends a wait. Raises ConnectionFault."""
        before = self.outbound
        if before + increment > MAX_WINDOW:
            raise ConnectionFault(
                ErrorCode.FLOW_CONTROL_ERROR, f"the connection's window above {MAX_WINDOW}"
            )
        self.outbound = before + increment
        return before <= 0 < before + increment

    def widen_stream(self, stream: Stream, increment: int) -> bool:
        """The peer gave a stream credit; return whether that ends a wait. Raises StreamFault."""
        before = self.first_outbound + stream.outbound
        stream.outbound += increment
        if before + increment > MAX_WINDOW:
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR, f"a window above {MAX_WINDOW}")
        return before <= 0 < before + increment

    def announced(self, first: int, streams: Iterable[Stream]) -> bool:
        """The peer announced an initial window; return whether it widens any. Raises ConnectionFault."""
        larger = first > self.first_outbound
        self.first_outbound = first
        most = max([stream.outbound for stream in streams], default=None) if larger else None
        if most is None:
            return False
        if first + most > MAX_WINDOW:
            raise ConnectionFault(
                ErrorCode.FLOW_CONTROL_ERROR,
                f"INITIAL_WINDOW_SIZE makes a window above {MAX_WINDOW}",
            )
        return True
