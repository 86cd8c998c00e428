"""Parking: the same as Trio's own waiting, and nothing of one wait is left for the next."""

from __future__ import annotations

import gc
import weakref

import pytest
import trio
from outcome import Error, Value
from trio.testing import wait_all_tasks_blocked

from xproxy.transport.parking import Reason


class Waiter:
    """Waits, and is woken by the test."""

    def __init__(self) -> None:
        self.task: trio.lowlevel.Task | None = None
        self.given_up = 0
        self.reason = Reason(self.abort)

    def abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self.given_up += 1
        self.task = None
        return trio.lowlevel.Abort.SUCCEEDED

    async def wait(self) -> object:
        self.task = trio.lowlevel.current_task()
        return await self.reason.parked()


async def test_it_returns_what_it_is_rescheduled_with() -> None:
    waiter = Waiter()
    got: list[object] = []

    async def wait() -> None:
        got.extend([await waiter.wait() for _ in range(3)])
        with pytest.raises(ValueError, match="no more"):
            await waiter.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        for number in range(3):
            await wait_all_tasks_blocked()
            assert waiter.task is not None
            trio.lowlevel.reschedule(waiter.task, Value(number))
        await wait_all_tasks_blocked()
        assert waiter.task is not None
        trio.lowlevel.reschedule(waiter.task, Error(ValueError("no more")))
    assert got == [0, 1, 2]
    assert waiter.given_up == 0


async def test_cancelling_gives_it_up_and_it_can_be_waited_for_again() -> None:
    waiter = Waiter()
    for number in range(1, 4):
        with trio.move_on_after(0) as scope:
            await waiter.wait()
        assert scope.cancelled_caught
        assert waiter.given_up == number
        assert waiter.task is None


async def test_a_deadline_of_another_scope_reaches_it() -> None:
    waiter = Waiter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waiter.wait)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert waiter.given_up == 1


def test_it_holds_its_owner_and_nothing_else_does() -> None:
    waiter = Waiter()
    gone = weakref.ref(waiter)
    del waiter.reason
    gc.disable()
    try:
        del waiter
        assert gone() is None
    finally:
        gc.enable()
