"""Each timer runs once, from when it was armed."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from xproxy.migration.deadlines import Deadlines
from xproxy.migration.giving import Timer


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
