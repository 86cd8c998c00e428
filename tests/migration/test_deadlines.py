"""Each timer runs once, from when it was armed."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from xproxy.migration.deadlines import Deadlines
from xproxy.migration.giving import STALL, Timer


async def test_who_is_late_is_told_once_and_who_was_disarmed_is_not(
    autojump_clock: MockClock,
) -> None:
    deadlines, begun = Deadlines(), trio.current_time()
    heard: list[tuple[Timer, float]] = []

    def late(timer: Timer) -> None:
        heard.append((timer, trio.current_time() - begun))
        if len(heard) == 1:
            deadlines.arm(Timer.READY, 5.0)  # again

    deadlines.arm(Timer.READY, 60.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(deadlines.run, late)
        await trio.sleep(1)
        deadlines.arm(Timer.STALL, 3.0)
        deadlines.arm(Timer.CANARY, 2.0)
        deadlines.disarm(Timer.CANARY)
        deadlines.disarm(Timer.CANARY)
        await trio.sleep(1)
        deadlines.arm(Timer.STALL, 3.0)  # it counts from here
        await trio.sleep(500)
        nursery.cancel_scope.cancel()
    assert heard == [(Timer.STALL, 5.0), (Timer.READY, 10.0)]


async def test_where_we_stood_still_what_was_said_meanwhile_is_heard_first(
    mock_clock: MockClock,
) -> None:
    deadlines, heard = Deadlines(), list[Timer]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(deadlines.run, heard.append)
        for _ in range(2):  # each time that it is armed
            deadlines.arm(Timer.STALL, STALL)
            await wait_all_tasks_blocked()
            mock_clock.jump(STALL + 60)
            await wait_all_tasks_blocked()
            assert heard == []
            deadlines.disarm(Timer.STALL)  # an answer was there
            mock_clock.jump(60)
            await wait_all_tasks_blocked()
            assert heard == []
        nursery.cancel_scope.cancel()


async def test_whoever_stands_still_again_is_excused_once(mock_clock: MockClock) -> None:
    deadlines, heard = Deadlines(), list[Timer]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(deadlines.run, heard.append)
        deadlines.arm(Timer.STALL, STALL)
        await wait_all_tasks_blocked()
        mock_clock.jump(STALL + 60)
        await wait_all_tasks_blocked()
        assert heard == []
        mock_clock.jump(60)
        await wait_all_tasks_blocked()
        assert heard == [Timer.STALL]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("again", [False, True])
async def test_of_two_that_are_late_the_first_may_put_off_the_other(
    mock_clock: MockClock, again: bool
) -> None:
    deadlines, heard = Deadlines(), list[Timer]()

    def late(timer: Timer) -> None:
        heard.append(timer)
        if timer is Timer.CANARY:
            deadlines.disarm(Timer.STALL)
            if again:
                deadlines.arm(Timer.STALL, STALL)

    deadlines.arm(Timer.CANARY, 1.0)
    deadlines.arm(Timer.STALL, 1.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(deadlines.run, late)
        await wait_all_tasks_blocked()
        mock_clock.jump(1.0)
        await wait_all_tasks_blocked()
        assert heard == [Timer.CANARY]
        mock_clock.jump(STALL)
        await wait_all_tasks_blocked()
        assert heard == [Timer.CANARY, *[Timer.STALL] * again]
        nursery.cancel_scope.cancel()
