"""Windows (RFC 9113 §5.2, §6.9): what the peer may send us, and what we owe it.

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

from xproxy.codecs.http2.limits import FIRST_WINDOW, Http2Limits
from xproxy.codecs.http2.state import Stream
from xproxy.codecs.http2.wire import window_update


class Intake:
    """What the peer may send on the connection as a whole, and how much of that its streams may have."""

    __slots__ = ("_first", "_half", "_most", "owed", "spare", "window")

    def __init__(self, limits: Http2Limits) -> None:
        target = limits.connection_window_bytes
        self.window = max(target, FIRST_WINDOW)
        """Bytes that the peer may still send."""
        self.owed = min(target - FIRST_WINDOW, 0)
        """Bytes that came, for which no credit was given yet. Below 0: so many are held back."""
        self.spare = int(target)
        """Bytes by which streams' windows may still grow."""
        self._half = max(target // 2, 1)
        self._first = limits.first_window
        self._most = int(limits.stream_window_bytes)

    def give(self, size: int) -> bytes:
        """Bytes came; returns the credit for them, which may be none for now."""
        self.owed += size
        if self.owed < self._half:
            return b""
        owed, self.owed = self.owed, 0
        self.window += owed
        return window_update(0, owed)

    def renew(self, stream_id: int, stream: Stream, count: int) -> bytes:
        """A stream's consumer took bytes; returns its credit: none, or what it took and more, as it is quick."""
        if not stream.receiving:
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
