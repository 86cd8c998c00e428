"""How long a client of a shared connection may say nothing: with half a message, and with nothing in flight."""

from __future__ import annotations

import math
from typing import Final

import trio

from xproxy.connection.phase import Phase
from xproxy.connection.service import FilterChain
from xproxy.connection.shared.wire import SharedWire
from xproxy.transport.timers import Timer, Timers

_FOREVER: Final = 1e9
"""Seconds that stand for a timeout that is switched off."""


class Silence:
    """Watches one connection by a timer that looks when the last bytes came: reading pays nothing for it."""

    __slots__ = ("_chain", "_half_message", "_timer", "_timers", "_wire")

    def __init__(self, wire: SharedWire, chain: FilterChain, timers: Timers) -> None:
        self._wire = wire
        self._chain = chain
        self._timers = timers
        self._timer = Timer()
        self._timer.scope = self
        self._half_message = False

    def start(self, left: float = math.inf) -> None:
        """Begin to watch. ``left``: seconds, where less are left than there are for one who has just been heard."""
        now, limit = trio.current_time(), self._limit
        if left < limit:
            self._wire.read_at = now + left - limit  # it has been silent for as long, elsewhere
        self._timers.arm(self._timer, now + min(limit, left))

    def pause(self) -> float:
        """Watch no more until ``start``; returns how many seconds are left."""
        now = trio.current_time()
        since = now if self._wire.streams else self._wire.read_at
        self._timers.arm(self._timer, math.inf)
        return since + self._limit - now

    @property
    def half_message(self) -> bool:
        """A message has come in part."""
        return self._half_message

    def heard(self, *, half_message: bool) -> None:
        """Bytes came, and after them a message is still incomplete, or none is."""
        if half_message:
            self._half_message = True
            deadline = self._wire.read_at + self._limit
            if deadline < self._timer.deadline:
                self._timers.arm(self._timer, deadline)
        else:
            self._half_message = False

    def goodbye(self) -> None:
        """Say it, and look again once the client has had time to read it: it may have asked for more before."""
        if self._wire.phase is Phase.SERVING:
            self._wire.open_until = trio.current_time() + self._chain.service.timeouts.linger
            self._timers.arm(self._timer, self._wire.open_until)
        self._wire.goodbye()

    def end(self) -> None:
        """Watch no more."""
        self._timers.discard(self._timer)

    @property
    def _limit(self) -> float:
        timeouts = self._chain.service.timeouts
        return (timeouts.body if self._half_message else timeouts.idle) or _FOREVER

    def cancel(self) -> None:
        """The timer has come to its end: see whether the client has been silent for so long."""
        wire = self._wire
        if wire.phase is not Phase.SERVING:
            wire.finish_if_idle()  # if it is not, its last stream will
            return
        now = trio.current_time()
        # A client with streams in flight may well wait for its answers.
        since = now if wire.streams else wire.read_at
        if now < since + self._limit:
            self._timers.arm(self._timer, since + self._limit)
        elif self._half_message:
            self._chain.stats.downstream_cx_head_timeout += 1
            wire.stop_reading()
        else:
            self._chain.stats.downstream_cx_idle_timeout += 1
            self.goodbye()
