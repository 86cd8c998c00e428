"""Long work that is nobody's request lets the others go on in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Final, TypeVar

import trio

T = TypeVar("T")

SLICE: Final = 0.001
"""Seconds of such work in a round of the loop."""


async def unhurried(work: Generator[None, None, T]) -> T:
    """Do ``work``, which yields between its steps, with breaks, and return what it returns. Mostly no checkpoint.

    Cancelled, it closes ``work`` first.
    """
    breather = Breather()
    try:
        while True:
            try:
                next(work)
            except StopIteration as done:
                result: T = done.value
                return result
            await breather.breathe()
    finally:
        work.close()


def at_once(work: Generator[None, None, T]) -> T:
    """Do ``work`` without breaks, and return what it returns."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: T = done.value
            return result


class Breather:
    """Called between the steps of long work; made anew for each piece of it."""

    __slots__ = ("_begun", "_clock")

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._begun = clock()

    @property
    def due(self) -> bool:
        """Whether the others have waited for ``SLICE`` seconds."""
        return self._clock() - self._begun >= SLICE

    async def breathe(self) -> None:
        """Let the others go on, if it is time. A checkpoint only then."""
        if self.due:
            await trio.lowlevel.checkpoint()
            self._begun = self._clock()
