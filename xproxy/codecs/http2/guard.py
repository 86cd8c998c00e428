"""Counters that end a connection whose peer makes work that serves nobody: floods of every kind.

Nothing is counted for a connection's life: a PING each second beside a quiet stream is no flood, however long it goes
on. A codec has no clock, but its driver tells it how much time has passed (``SupportsElapsed``): every
``_FADE_SECONDS`` all counters are halved, the work done and what it explains alike. So each holds what happened
lately, and its limit bounds a rate: about ``limit / (2 * _FADE_SECONDS)`` a second for good, and ``limit`` at once.

Within that the measure is useful work: streams opened, and DATA frames with something in them, in either direction.
Each kind of idle frame has a start allowance, and for each piece of work some more, as in Envoy. A peer that works
pays for its chatter; one that only chatters runs out.

Rapid reset (CVE-2023-44487): streams that end before they were answered, and so soon that the bound on streams in
flight did not hold them back, may not be the greater part of all. It makes no difference who reset them: a peer that
makes *us* reset its streams, by breaking the protocol on each, is the same attack (made-you-reset, CVE-2025-8671),
and so is one that opens streams above the limit. A call that waited for its answer and was given up is no attack:
whoever does that is held back by the number of streams in flight.

Every ``_WINDOW`` streams all counters are halved too: good behaviour a moment ago buys little now.
"""

from __future__ import annotations

from typing import Final

from xproxy.codecs.http2.faults import ConnectionFault
from xproxy.codecs.http2.limits import Http2Limits
from xproxy.codecs.http2.status import ErrorCode

_WINDOW: Final = 4096
"""Streams after which the past counts half."""
_FADE_MS: Final = 2000
"""Milliseconds after which the past counts half."""
_MOST_HALVINGS: Final = 62
RAPID_MS: Final = 250
"""A stream that lived so long was no rapid one: 100 at a time are 400 a second, less than honest requests may be.
It is below the usual deadlines of calls, and above the steps in which a driver tells the time."""
_EARLY_STREAMS: Final = 1024
"""Streams above the limit that a client may have opened before it read what the limit is."""
_TOO_LONG_WEIGHT: Final = 10
"""Resets as which a head counts that is read only for its effect on the table: 5,000 fields take milliseconds."""
_CONTROL_PER_WORK: Final = 4
"""Control frames that a piece of work explains: gRPC pings to measure the bandwidth while data flows."""
_WINDOW_UPDATES_AT_FIRST: Final = 100
"""WINDOW_UPDATE frames before there is any work. Envoy's is 5; clients that open many windows at first have more."""


def _calm(limit: str, detail: str) -> ConnectionFault:
    return ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, detail, limit)


class Guard:
    """The counters of one connection. Every ``on_`` method may raise ConnectionFault, ENHANCE_YOUR_CALM."""

    __slots__ = (
        "_limits",
        "control",
        "data_in",
        "data_out",
        "early",
        "empty",
        "now",
        "priorities",
        "resets",
        "since",
        "streams",
        "window_updates",
    )

    FADING: Final = (
        "streams",
        "data_in",
        "data_out",
        "control",
        "empty",
        "priorities",
        "resets",
        "window_updates",
    )
    COUNTERS: Final = (*FADING, "early", "now", "since")

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
        """Streams that ended before their answer began, and soon."""
        self.window_updates = 0
        self.early = 0
        """Streams refused before the peer had read what the limit is."""
        self.now = 0
        """Milliseconds of the connection's life, as far as the driver has told."""
        self.since = 0
        """When the past was last halved, likewise."""

    def counts(self) -> dict[str, int]:
        """Return the counters that are not 0."""
        return {name: count for name in self.COUNTERS if (count := getattr(self, name))}

    def resume(self, counts: dict[str, int]) -> None:
        """Go on from another one's ``counts``."""
        for name, count in counts.items():
            setattr(self, name, count)

    def elapsed(self, seconds: float) -> None:
        """Time has passed."""
        self.now += int(seconds * 1000)
        halvings = (self.now - self.since) // _FADE_MS
        if halvings:
            self.since += halvings * _FADE_MS
            self._fade(min(halvings, _MOST_HALVINGS))

    def _fade(self, halvings: int) -> None:
        for counter in self.FADING:
            setattr(self, counter, getattr(self, counter) >> halvings)

    def on_stream(self) -> None:
        """Note that a stream was opened."""
        self.streams += 1
        self.empty = 0
        if self.streams >= _WINDOW:
            self._fade(1)

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

    def on_reset(self, opened: int, weight: int = 1) -> None:
        """Count a stream, ``opened`` at that time, that ended before its answer began."""
        if self.now - opened >= RAPID_MS:
            return
        self.resets += weight
        if self.resets > self._limits.max_resets and 2 * self.resets > self.streams:
            raise _calm(
                "max_resets",
                f"{self.resets} of {self.streams} streams reset before they were answered,"
                f" limit {self._limits.max_resets} or half",
            )

    def on_too_long(self) -> None:
        """Count a stream whose head was too long, and was read all the same: that is more work than most."""
        self.on_reset(self.now, _TOO_LONG_WEIGHT)

    def on_refused(self, *, warned: bool) -> None:
        """Count a stream above the limit; ``warned``: its peer has read what the limit is."""
        if not warned and self.early < _EARLY_STREAMS:
            self.early += 1
            self.streams -= 1  # nor is it work
        else:
            self.on_reset(self.now)
