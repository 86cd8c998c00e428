"""How much long work is done in one turn of a task, counted and not timed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from xproxy.transport.breather import SLICE


class Turns(trio.abc.Instrument):
    """Pieces of work by the turn in which they were done."""

    def __init__(self) -> None:
        self._turn = 0
        self._done: Counter[int] = Counter()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._turn += 1

    def work(self) -> None:
        """Do a piece that fills a slice: whoever gives way when it is time does so after each."""
        self._done[self._turn] += 1
        end = time.perf_counter() + SLICE
        while time.perf_counter() < end:
            pass

    @property
    def most(self) -> int:
        """How many pieces were done in one turn."""
        return max(self._done.values(), default=0)

    @property
    def pieces(self) -> int:
        return self._done.total()


@contextmanager
def turns() -> Iterator[Turns]:
    found = Turns()
    trio.lowlevel.add_instrument(found)
    try:
        yield found
    finally:
        trio.lowlevel.remove_instrument(found)
