"""Windows (RFC 9113 §5.2, §6.9): what the peer may send us, and what we owe it.

Credit is given as the consumer takes: a body that nobody takes stops at the window. It is given in large pieces, when
half a window is owed, as each WINDOW_UPDATE is a frame and a wake-up for the peer.

A stream's windows are kept as differences to the initial window of their direction. So a SETTINGS that changes that
changes all streams at once (§6.9.2), and costs the same with one stream open as with a thousand.
"""

from __future__ import annotations

from xproxy.codecs.http2.limits import FIRST_WINDOW, Http2Limits
from xproxy.codecs.http2.wire import window_update


class Intake:
    """What the peer may send on the connection as a whole."""

    __slots__ = ("_half", "owed", "window")

    def __init__(self, limits: Http2Limits) -> None:
        target = limits.connection_window_bytes
        self.window = max(target, FIRST_WINDOW)
        """Bytes that the peer may still send."""
        self.owed = min(target - FIRST_WINDOW, 0)
        """Bytes given back by their consumers, for which no credit was given yet. Below 0: so many are held back."""
        self._half = max(target // 2, 1)

    def give(self, size: int) -> bytes:
        """Bytes will not be held any more; returns the credit for them, which may be none for now."""
        self.owed += size
        if self.owed < self._half:
            return b""
        owed, self.owed = self.owed, 0
        self.window += owed
        return window_update(0, owed)
