"""A peer that does not acknowledge what was said first, in the time that the codec gives it."""

from __future__ import annotations

import math
from typing import Final

import trio

from xproxy.codecs.api import SupportsDeadline, supports
from xproxy.connection.shared.wire import SharedWire
from xproxy.transport.timers import Timer, Timers

_AGAIN: Final = 1.0
"""Seconds until the next look at a peer that could not be heard."""


class Acknowledgement:
    """Looks once, when the time is up."""

    __slots__ = ("_timer", "_timers", "_wire")

    def __init__(self, wire: SharedWire, timers: Timers, patience: float | None = None) -> None:
        """``patience``: seconds that are left; None: all that the codec gives."""
        self._wire = wire
        self._timers = timers
        self._timer = Timer()
        self._timer.scope = self
        codec = wire.codec
        if supports(codec, SupportsDeadline) and codec.patience:
            left = codec.patience if patience is None else patience
            timers.arm(self._timer, trio.current_time() + left)

    def pause(self) -> float:
        """Do not look until ``go_on``; returns how many seconds are left, infinite if there is nothing to see."""
        left = self._timer.deadline - trio.current_time()
        self._timers.arm(self._timer, math.inf)
        return left

    def go_on(self, left: float) -> None:
        """Look in so many seconds."""
        self._timers.arm(self._timer, trio.current_time() + left)

    def end(self) -> None:
        """Look no more."""
        self._timers.discard(self._timer)

    def cancel(self) -> None:
        """The timer has come to its end."""
        codec = self._wire.codec
        if not supports(codec, SupportsDeadline) or codec.acknowledged:
            return
        if self._wire.read_disabled:
            self._timers.arm(self._timer, trio.current_time() + _AGAIN)
            return
        self._wire.violated(codec.overdue())
