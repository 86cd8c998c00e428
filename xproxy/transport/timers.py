"""Deadlines that cost an assignment.

Moving a Trio cancel scope's deadline costs about 2 µs, and a request moves one twice. Nearly always it moves further
away. So a timer here is put on the heap once; when its time comes, the timer says whether its deadline has moved
meanwhile, and goes back on the heap. Exact for whoever waits: a deadline that moves nearer is pushed at once.
"""

from __future__ import annotations

import heapq
import math
from typing import Final, Protocol

import trio

_TIDY: Final = 1024
"""Dead entries tolerated on the heap before it is rebuilt; beyond it, half of the heap at most is dead."""


class Cancellable(Protocol):
    """What a timer does when its time has come; mostly a ``trio.CancelScope``."""

    def cancel(self) -> None:
        """Stop. Never blocks."""
        ...


class Timer:
    """Cancels ``scope`` at ``deadline``. Whoever owns the scope asks ``fired`` why it was cancelled."""

    __slots__ = ("_entry", "deadline", "fired", "scope", "wake")

    def __init__(self) -> None:
        self.deadline = math.inf
        """Trio clock, seconds; inf: none."""
        self.scope: Cancellable | None = None
        self.fired = False
        self.wake = math.inf
        """When the heap will look at it, never later than ``deadline``: who only puts that off writes it."""
        self._entry = 0  # the number of its one valid entry on the heap; all others are dead


class Timers:
    """All timers of a process. ``run`` must be running for any of them to fire."""

    __slots__ = ("_dead", "_heap", "_sequence", "_task")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._sequence = 0
        self._dead = 0
        self._task: trio.lowlevel.Task | None = None

    def arm(self, timer: Timer, deadline: float) -> None:
        """Let ``timer`` fire at ``deadline`` instead of whenever it was to."""
        timer.deadline = deadline
        if deadline < timer.wake:
            self._bury(timer)
            self._push(timer, deadline)

    def _push(self, timer: Timer, when: float) -> None:
        timer.wake = when
        self._sequence += 1
        timer._entry = self._sequence
        heap = self._heap
        heapq.heappush(heap, (when, self._sequence, timer))
        if heap[0][2] is timer and self._task is not None:
            task, self._task = self._task, None
            trio.lowlevel.reschedule(task)

    def discard(self, timer: Timer) -> None:
        """Forget a timer that will not be used again."""
        timer.scope = None
        timer.deadline = math.inf
        self._bury(timer)

    def _bury(self, timer: Timer) -> None:
        # Its entry, if it has one, stays on the heap until its time comes or there are too many such.
        if not timer._entry:
            return
        timer._entry = 0
        timer.wake = math.inf
        self._dead += 1
        if self._dead > _TIDY and self._dead * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2]._entry == entry[1]]
            heapq.heapify(self._heap)
            self._dead = 0

    async def run(self) -> None:
        """Fire timers for ever."""
        while True:
            now = trio.current_time()
            heap = self._heap
            while heap and heap[0][0] <= now:
                _, number, timer = heapq.heappop(heap)
                if timer._entry != number:
                    self._dead -= 1  # replaced by a nearer entry, or discarded
                    continue
                timer._entry = 0
                timer.wake = math.inf
                if timer.deadline <= now:
                    timer.deadline = math.inf
                    timer.fired = True
                    if timer.scope is not None:
                        timer.scope.cancel()
                elif timer.deadline != math.inf:
                    self._push(timer, timer.deadline)
            # A scope a wait, at most one for each expiry: this is not the hot path.
            with trio.CancelScope(deadline=self._heap[0][0] if self._heap else math.inf):
                self._task = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def __len__(self) -> int:
        return len(self._heap)
