"""Counters that end a connection whose peer makes work that serves nobody: floods of every kind.

A codec has no clock, so "too many in ten seconds" cannot be said here. What can be said is better: too many *for the
work that was done*. The clock of these counters is useful work: streams opened, and DATA frames with something in
them, in either direction. Each kind of idle frame has a start allowance, and for each piece of work some more, as in
Envoy. A peer that works pays for its chatter; one that only chatters runs out, however slowly it does so. (A driver
that knows the time forgives with ``relax``: asking a silent peer for a sign of life does.)

Rapid reset (CVE-2023-44487): streams that end before they were answered may not be the greater part of all. It makes
no difference who reset them: a peer that makes *us* reset its streams, by breaking the protocol on each, is the same
attack (made-you-reset, CVE-2025-8671), and so is one that opens streams above the limit.

Every ``_WINDOW`` streams all counters are halved: good behaviour long ago buys nothing now.
"""

from __future__ import annotations

from typing import Final

from xproxy.codecs.http2.faults import ConnectionFault
from xproxy.codecs.http2.limits import Http2Limits
from xproxy.codecs.http2.status import ErrorCode

_WINDOW: Final = 4096
"""Streams after which the past counts half."""
_CONTROL_PER_WORK: Final = 4
"""Control frames that a piece of work explains: gRPC pings to measure the bandwidth while data flows."""
_WINDOW_UPDATES_AT_FIRST: Final = 100
"""WINDOW_UPDATE frames before there is any work. Envoy's is 5; clients that open many windows at first have more."""


def _calm(limit: str, detail: str) -> ConnectionFault:
    return ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, detail, limit)


class Guard:
    """The counters of one connection. Every method may raise ConnectionFault, ENHANCE_YOUR_CALM."""

    __slots__ = (
        "_limits",
        "control",
        "data_in",
        "data_out",
        "empty",
        "priorities",
        "resets",
        "streams",
        "window_updates",
    )

    COUNTERS: Final = (
        "streams",
        "data_in",
        "data_out",
        "control",
        "empty",
        "priorities",
        "resets",
        "window_updates",
    )

    def __init__(self, limits: Http2Limits) -> None:
        self._limits = limits
        self.streams = 0
        """Streams opened, by either side."""
        self.data_in = 0
        """DATA frames received that brought something; each ends a row of empty ones."""
        self.data_out = 0
        """DATA frames sent."""
        self.control = 0
        """PING, SETTINGS, unknown frames, and frames of streams that are over."""
        self.empty = 0
        """Frames in a row that brought and ended nothing."""
        self.priorities = 0
        self.resets = 0
        """Streams that ended before their answer began."""
        self.window_updates = 0

    def on_stream(self) -> None:
        """Note that a stream was opened."""
        self.streams += 1
        self.empty = 0
        if self.streams >= _WINDOW:
            for counter in self.COUNTERS:
                setattr(self, counter, getattr(self, counter) // 2)

    def on_control(self) -> None:
        """Count a frame that carries nothing for a stream."""
        self.control += 1
        work = self.streams + self.data_in + self.data_out
        allowed = self._limits.max_control_frames + _CONTROL_PER_WORK * work
        if self.control > allowed:
            raise _calm(
                "max_control_frames",
                f"{self.control} control frames where the work done explains {allowed}",
            )

    def on_priority(self) -> None:
        """Count a PRIORITY frame."""
        self.priorities += 1
        allowed = self._limits.max_priorities * (1 + self.streams)
        if self.priorities > allowed:
            raise _calm("max_priorities", f"{self.priorities} PRIORITY frames, limit {allowed}")

    def on_window_update(self) -> None:
        """Count a WINDOW_UPDATE frame. Envoy's formula, but for the start."""
        self.window_updates += 1
        per_data = self._limits.max_window_updates
        allowed = _WINDOW_UPDATES_AT_FIRST + 2 * (self.streams + per_data * self.data_out)
        if self.window_updates > allowed:
            raise _calm(
                "max_window_updates", f"{self.window_updates} WINDOW_UPDATE frames, limit {allowed}"
            )

    def on_empty(self) -> None:
        """Count a frame that brings nothing and ends nothing (CVE-2019-9518)."""
        self.empty += 1
        if self.empty > self._limits.max_empty_frames:
            raise _calm(
                "max_empty_frames",
                f"{self.empty} empty frames in a row, limit {self._limits.max_empty_frames}",
            )

    def on_reset(self) -> None:
        """Count a stream that ended before its answer began."""
        self.resets += 1
        if self.resets > self._limits.max_resets and 2 * self.resets > self.streams:
            raise _calm(
                "max_resets",
                f"{self.resets} of {self.streams} streams reset before they were answered,"
                f" limit {self._limits.max_resets} or half",
            )

    def relax(self) -> None:
        """Time has passed in which the peer did nothing: its idle frames are forgiven."""
        self.control = 0
        self.priorities = 0
        self.window_updates = 0
