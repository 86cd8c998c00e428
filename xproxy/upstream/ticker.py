"""One clock for all clusters: it looks after those that hold something; the others cost nothing.

A timer for each would wake the process as often a second as there are clusters, all of them in one round of the loop.
"""

from __future__ import annotations

import logging
from typing import Final, Protocol

import trio

from xproxy.transport.breather import Breather

_logger = logging.getLogger(__name__)

TICK: Final = 1.0
"""Seconds between two ticks."""


class Ticked(Protocol):
    """What needs to be looked after now and then."""

    def tick(self, tick: int) -> int:
        """Look after what it holds. Never blocks. Return after how many ticks to come back; 0: not unasked."""
        ...


class Ticker:
    """Calls those who asked for it, at the tick they asked for. ``run`` must be running."""

    __slots__ = ("_at", "_due", "tick")

    def __init__(self) -> None:
        self.tick = 0
        """How many there were: what idle times are counted in."""
        self._due: dict[int, list[Ticked]] = {}
        self._at: dict[Ticked, int] = {}
        # Of each the one tick that holds; its other entries in _due are dead.

    def watch(self, thing: Ticked, ticks: int = 1) -> None:
        """Call ``thing`` after so many ticks, unless it is called sooner anyway."""
        at = self.tick + ticks
        before = self._at.get(thing)
        if before is None or before > at:
            self._at[thing] = at
            self._due.setdefault(at, []).append(thing)

    def forget(self, thing: Ticked) -> None:
        """Do not call ``thing`` any more."""
        self._at.pop(thing, None)

    async def run(self) -> None:
        """Tick for ever."""
        while True:
            await trio.sleep(TICK)
            self.tick += 1
            breather = Breather()
            for thing in self._due.pop(self.tick, ()):
                if self._at.get(thing) == self.tick:
                    self._call(thing)
                    await breather.breathe()

    def _call(self, thing: Ticked) -> None:
        del self._at[thing]
        ticks = 1
        try:
            ticks = thing.tick(self.tick)
        except Exception:
            # A codec's own code may run in it. That is no reason to end everybody's connections.
            _logger.exception("looking after idle connections has failed")
        if ticks:
            self.watch(thing, ticks)

    def __len__(self) -> int:
        """How many are looked after."""
        return len(self._at)
