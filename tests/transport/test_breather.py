"""Long work lets the others go on, and short work costs no round of the loop."""

from __future__ import annotations

from collections.abc import Generator

import pytest
import trio

from xproxy.transport.breather import SLICE, Breather, at_once, unhurried


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Breaks(trio.abc.Instrument):
    """Counts how often a task gives way to others."""

    def __init__(self, task: trio.lowlevel.Task) -> None:
        self.task = task
        self.count = 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += task is self.task


async def breaks(seconds: float, steps: int) -> int:
    """Do so many steps of so many seconds; return how often others had a turn."""
    clock = Clock()
    instrument = Breaks(trio.lowlevel.current_task())
    trio.lowlevel.add_instrument(instrument)
    breather = Breather(clock)
    for _ in range(steps):
        clock.now += seconds
        await breather.breathe()
    trio.lowlevel.remove_instrument(instrument)
    return instrument.count


async def test_work_that_is_short_is_done_at_once() -> None:
    assert await breaks(SLICE / 11, 10) == 0


async def test_work_that_is_long_has_a_break_after_each_slice() -> None:
    assert await breaks(SLICE / 3.5, 12) == 3


async def test_unhurried_work_is_done_to_its_end_and_its_errors_are_its_own() -> None:
    done: list[int] = []

    def work(end: int) -> Generator[None, None, int]:
        for number in range(end):
            done.append(number)
            yield
        if end == 3:
            raise ValueError("three")
        return end

    assert await unhurried(work(5)) == 5
    assert done == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="three"):
        await unhurried(work(3))


async def test_time_in_the_break_is_not_its_own() -> None:
    clock = Clock()
    breather = Breather(clock)
    clock.now += 2 * SLICE
    await breather.breathe()
    assert not breather.due
    clock.now += SLICE / 2
    assert not breather.due
    clock.now += SLICE
    assert breather.due


def test_without_breaks_it_is_done_at_once() -> None:
    def work() -> Generator[None, None, int]:
        for _ in range(3):
            yield
        return 7

    assert at_once(work()) == 7
