"""What a state machine wants to be told of when it is late."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import trio

from xproxy.migration.giving import Timer

_STOOD_STILL: Final = 1.0
"""Seconds by which a timer is late where it is us who stood still: what was said meanwhile is heard first."""


class Deadlines:
    """Each of its timers runs once, from when it was armed."""

    def __init__(self) -> None:
        self._due: dict[Timer, float] = {}
        self._excused: set[Timer] = set()
        # Those that have waited longer for our own sake, once.
        self._rearmed = trio.Event()
        self._looked_until = -math.inf
        # Until when whoever runs it sleeps (trio clock).

    def arm(self, timer: Timer, seconds: float) -> None:
        """Let a timer run, from now."""
        self._excused.discard(timer)
        due = self._due[timer] = trio.current_time() + seconds
        # Each offer puts the same time off: whoever runs it need not wake for that.
        if due < self._looked_until:
            self._rearmed.set()

    def disarm(self, timer: Timer) -> None:
        """Let it be. Idempotent."""
        self._due.pop(timer, None)

    async def run(self, late: Callable[[Timer], None]) -> None:
        """Call ``late`` for each whose time has come, until cancelled."""
        while True:
            self._rearmed = trio.Event()
            self._looked_until = min(self._due.values(), default=math.inf)
            with trio.move_on_at(self._looked_until):
                await self._rearmed.wait()
            now = trio.current_time()
            for timer in [one for one, due in self._due.items() if due <= now]:
                due = self._due.get(timer, math.inf)
                if due > now:
                    continue  # put off by one that was told before it
                del self._due[timer]
                if now - due >= _STOOD_STILL and timer not in self._excused:
                    self._excused.add(timer)
                    self._due[timer] = now + _STOOD_STILL
                else:
                    late(timer)
