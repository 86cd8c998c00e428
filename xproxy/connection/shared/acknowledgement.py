"""A peer that does not acknowledge what was said first, in the time that the codec gives it."""

from __future__ import annotations

from typing import Final, Protocol

import trio

from xproxy.codecs.api import SupportsDeadline
from xproxy.model.frames import Violation
from xproxy.transport.timers import Timer, Timers

_AGAIN: Final = 1.0
"""Seconds until the next look at a peer that could not be heard."""


class Accused(Protocol):
    """The connection as this sees it."""

    @property
    def deaf(self) -> bool:
        """Nothing is read at the moment: the peer may have spoken."""
        ...

    def violated(self, frame: Violation) -> None: ...

    def stop_reading(self) -> None: ...


class Acknowledgement:
    """Looks once, when the time is up."""

    __slots__ = ("_codec", "_connection", "_timer", "_timers")

    def __init__(self, connection: Accused, codec: SupportsDeadline, timers: Timers) -> None:
        self._connection = connection
        self._codec = codec
        self._timers = timers
        self._timer = Timer()
        self._timer.scope = self
        if codec.patience:
            timers.arm(self._timer, trio.current_time() + codec.patience)

    def end(self) -> None:
        """Look no more."""
        self._timers.discard(self._timer)

    def cancel(self) -> None:
        """The timer has come to its end."""
        if self._codec.acknowledged:
            return
        if self._connection.deaf:
            self._timers.arm(self._timer, trio.current_time() + _AGAIN)
            return
        self._connection.violated(self._codec.overdue())
        self._connection.stop_reading()
