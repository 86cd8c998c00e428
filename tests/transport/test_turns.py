"""Turns: nobody's turn is longer than a slice by much, nobody gets more than another, and nobody waits for ever."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from xproxy.transport.turns import (
    ALONE,
    FORGIVEN,
    GRACE,
    LIGHT,
    MOST_DEBT,
    ROUND,
    SLICE,
    STARVED,
    Account,
    Turns,
)

ROUNDS = 400


class Clock:
    """Time that passes when somebody works."""

    def __init__(self) -> None:
        self.now = 1.0

    def __call__(self) -> float:
        return self.now


def never() -> bool:
    return False


def always() -> bool:
    return True


def costly(turns: Turns, seconds: float, *, upstream: bool = False) -> Account:
    """Give an account whose last turn has taken so long."""
    account = turns.account(upstream=upstream)
    turns.charge(account, seconds)
    return account


class Hog:
    """A connection that uses so many seconds in each turn, and always has more to do."""

    def __init__(self, turns: Turns, clock: Clock, seconds: float) -> None:
        self.account = costly(turns, seconds)
        self.turns = turns
        self.clock = clock
        self.seconds = seconds
        self.had = 0.0

    async def run(self) -> None:
        while True:
            await self.turns.wait(self.account)
            self.clock.now += self.seconds
            self.had += self.seconds
            self.turns.charge(self.account, self.seconds)


async def beside(hogs: list[Hog], turns: Turns, work: Callable[[], None]) -> None:
    """Run ``work`` in each of ``ROUNDS`` rounds of the loop beside the hogs."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        for hog in hogs:
            nursery.start_soon(hog.run)
        for _ in range(ROUNDS):
            work()
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


@given(st.lists(st.floats(LIGHT, 5 * SLICE), min_size=1, max_size=30), st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_quick_connection_waits_for_one_slice_a_round_whatever_hogs_there_are(
    costs: list[float], pressed: bool
) -> None:
    clock = Clock()
    turns = Turns(always, clock, grace=0.0)
    turns.pressed_until = math.inf if pressed else 0.0
    most = SLICE if pressed else ALONE
    hogs = [Hog(turns, clock, cost) for cost in costs]
    waited: list[float] = []
    last = clock.now

    def look() -> None:
        nonlocal last
        waited.append(clock.now - last)
        last = clock.now

    trio.run(beside, hogs, turns, look)
    assert max(waited) <= most + max(costs) + 1e-9
    assert sum(waited) > 0
    had = [hog.had for hog in hogs]
    # Each has had as much as each other, but for a turn of either and where they began.
    assert max(had) - min(had) <= 3 * max(costs) + 1e-9


async def test_while_others_have_work_a_costly_one_gets_a_turn_now_and_then() -> None:
    clock = Clock()
    turns = Turns(never, clock, grace=0.0)
    hog = Hog(turns, clock, SLICE)

    def work() -> None:
        clock.now += SLICE / 4

    await beside([hog], turns, work)
    passed = clock.now - 1.0
    assert 0.5 * passed / STARVED <= hog.had / SLICE <= passed / STARVED + 1


def test_a_turn_is_due_to_who_was_quick_for_long_enough() -> None:
    clock = Clock()
    turns = Turns(always, clock, grace=0.0)
    account = costly(turns, SLICE)
    assert not turns.forgiven(account)
    clock.now += SLICE / FORGIVEN
    assert turns.forgiven(account)
    turns.charge(account, 3600.0)
    clock.now += MOST_DEBT / FORGIVEN
    assert turns.forgiven(account)


async def test_a_costly_one_alone_does_not_wait_after_as_long_a_pause_as_its_turn() -> None:
    clock = Clock()
    turns = Turns(never, clock, grace=0.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        await wait_all_tasks_blocked()
        account = costly(turns, SLICE)
        turns.tick()
        turns.pressed_until = math.inf
        clock.now += ROUND + SLICE / 100
        turns.charge(account, SLICE)
        assert turns.crowded()
        clock.now += SLICE
        assert not turns.crowded()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("pressed", "most"), [(True, ROUND), (False, ALONE)])
async def test_no_round_of_the_loop_is_long_and_nobody_waits_while_it_is_quick(
    pressed: bool, most: float
) -> None:
    clock = Clock()
    turns = Turns(never, clock)
    if pressed:
        turns.pressed_until = math.inf
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        await wait_all_tasks_blocked()
        turns.tick()
        account = costly(turns, SLICE)
        assert not turns.crowded()
        clock.now += most + SLICE / 100
        turns.charge(account, SLICE)
        assert turns.crowded()
        turns.tick()
        assert not turns.crowded()
        nursery.cancel_scope.cancel()


async def test_upstreams_take_turns_with_downstreams_however_many_those_are() -> None:
    clock = Clock()
    turns = Turns(always, clock, grace=0.0)
    turns.pressed_until = math.inf
    order: list[str] = []

    async def one(name: str, *, upstream: bool) -> None:
        account = costly(turns, SLICE, upstream=upstream)
        await turns.wait(account)
        order.append(name)

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(lambda: one("down", upstream=False))
        await wait_all_tasks_blocked()
        for _ in range(3):
            nursery.start_soon(lambda: one("up", upstream=True))
        await wait_all_tasks_blocked()
        nursery.start_soon(turns.run)
        while len(order) < 13:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert order[:6].count("up") == 3


async def test_who_gives_up_waiting_leaves_nothing_behind() -> None:
    turns = Turns(always, Clock())
    account = costly(turns, SLICE)
    for _ in range(1000):
        with trio.move_on_after(0) as scope:
            await turns.wait(account)
        assert scope.cancelled_caught
        assert len(turns) == 0
    assert len(gc.get_referrers(account)) < 100


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("pressed", [True, False])
async def test_always_new_accounts_do_not_come_before_an_old_one_for_ever(
    known: bool, pressed: bool
) -> None:
    clock = Clock()
    turns = Turns(always, clock, grace=0.0)
    turns.pressed_until = math.inf if pressed else 0.0
    hog = Hog(turns, clock, SLICE)
    others = 0.0

    async def anew() -> None:
        nonlocal others
        while True:
            await turns.wait(costly(turns, SLICE) if known else turns.newcomer(upstream=False))
            clock.now += SLICE
            others += SLICE

    async with trio.open_nursery() as nursery:
        for work in (turns.run, hog.run, anew, anew):
            nursery.start_soon(work)
        for _ in range(ROUNDS):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert hog.had > others / 4 > 0


async def test_release_wakes_who_waits_and_nobody_else() -> None:
    turns = Turns(always, Clock())
    account, other = costly(turns, SLICE), costly(turns, SLICE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.wait, other)
        async with trio.open_nursery() as inner:
            inner.start_soon(turns.wait, account)
            await wait_all_tasks_blocked()
            turns.release(account)
            turns.release(account)
        assert len(turns) == 1
        nursery.cancel_scope.cancel()


async def test_when_nobody_gives_turns_any_more_nobody_waits_for_one() -> None:
    turns = Turns(never, Clock())
    account = costly(turns, SLICE)
    with trio.fail_after(60):
        async with trio.open_nursery() as waiting, trio.open_nursery() as giving:
            giving.start_soon(turns.run)
            await wait_all_tasks_blocked()
            turns.grant()  # just now: the clock stands
            waiting.start_soon(turns.wait, account)
            for _ in range(3):
                await trio.lowlevel.checkpoint()
            assert len(turns) == 1
            giving.cancel_scope.cancel()
    assert not turns.crowded()


@pytest.mark.parametrize("seconds", [0.0, LIGHT])
def test_forgetting_never_makes_a_debt_negative(seconds: float) -> None:
    clock = Clock()
    turns = Turns(always, clock, grace=0.0)
    account = turns.account(upstream=False)
    clock.now += 100
    turns.charge(account, seconds)
    assert account.debt == seconds


def test_what_the_machine_takes_away_is_not_a_turns() -> None:
    now, work, switches = 0.0, 0.0, 0
    turns = Turns(lambda: True, lambda: now, lambda: work, lambda: switches)
    now, work, switches = 1.0, 0.0001, 1
    assert turns.spent(0.1) == LIGHT  # interrupted, and there was hardly any work
    now, work = 1.1, 0.0031
    assert turns.spent(0.1) == pytest.approx(0.003)  # not interrupted: what the processor did
    now, work = 1.2, 0.1031
    assert turns.spent(0.001) == 0.001  # work of others before it is not its own
    now, work, switches = 1.3, 0.1531, 5
    assert turns.spent(0.08) == pytest.approx(0.05)  # so long that it counts all the same


def test_an_interruption_excuses_once_and_is_looked_at_closely_from_then_on() -> None:
    # On a busy machine each turn is interrupted: who takes 3 ms of work each time must not be excused for ever.
    now, work, switches = 0.0, 0.0, 0
    turns = Turns(lambda: True, lambda: now, lambda: work, lambda: switches)
    turns.tick()
    now, work, switches = 0.01, 0.003, 1
    assert turns.spent(0.009) == LIGHT
    for _ in range(3):
        now += 0.0001
        turns.tick()
        now, work, switches = now + 0.009, work + 0.003, switches + 1
        assert turns.spent(0.009) == pytest.approx(0.003)
        work += 0.05  # others' work, before the next round
    now, work = now + 2.0, work + 0.0001
    turns.tick()
    now, work, switches = now + 0.01, work + 0.003, switches + 1
    assert turns.spent(0.009) == LIGHT


def test_an_interruption_excuses_nobody_while_costly_ones_are_about() -> None:
    now, work, switches = 0.0, 0.0, 0
    turns = Turns(lambda: True, lambda: now, lambda: work, lambda: switches)
    turns.tick()
    turns.busy = True
    now, work = 0.001, 0.0008
    turns.tick()  # sooner than where all are quick
    now, work, switches = 0.1, 0.0028, 1
    assert turns.spent(0.1) == pytest.approx(0.002)


def test_the_work_of_earlier_rounds_is_not_a_turns() -> None:
    now, work = 0.0, 0.0
    turns = Turns(lambda: True, lambda: now, lambda: work, lambda: 0)
    now, work = 5.0, 4.0
    turns.tick()
    now, work = 5.1, 4.002
    assert turns.spent(0.1) == pytest.approx(0.002)


async def test_who_had_much_while_nobody_waited_does_not_wait_long_for_it() -> None:
    # It took nobody's turn then: what it had is not held against it once others want some, too.
    clock = Clock()
    turns = Turns(always, clock, grace=0.0)
    alone = Hog(turns, clock, 0.001)
    for _ in range(10_000):  # ten seconds of it
        clock.now += 0.001
        turns.charge(alone.account, 0.001)
    others = [Hog(turns, clock, 0.001) for _ in range(5)]
    await beside([alone, *others], turns, lambda: None)
    assert alone.had > 0
    assert sum(other.had for other in others) / 5 - alone.had <= 2 * MOST_DEBT


@given(st.lists(st.floats(LIGHT, 1.0), min_size=1, max_size=30))
def test_nobody_is_ever_far_ahead_of_who_waits(turn: list[float]) -> None:
    clock = Clock()
    turns = Turns(always, clock, grace=0.0)
    account = turns.account(upstream=True)
    for seconds in turn:
        turns.charge(account, seconds)
    newcomer = turns.account(upstream=True)
    assert account.used - newcomer.used <= MOST_DEBT


@pytest.mark.parametrize(("new", "seconds"), [(False, 1.0), (True, 0.1)])
def test_costly_ones_are_pressed_for_a_while_after_somebody_quick_had_to_wait(
    new: bool, seconds: float
) -> None:
    clock = Clock()
    turns = Turns(never, clock)
    turns.tick()
    assert turns.limit() == ALONE
    turns.press(new=new)  # it did not wait
    assert turns.limit() == ALONE
    clock.now += GRACE + SLICE
    turns.press(new=new)
    assert turns.limit() == SLICE
    clock.now += seconds / 2
    turns.tick()
    turns.press(new=new)  # nor this, as they are pressed: it goes on
    clock.now += seconds * 0.9
    assert turns.limit() == SLICE
    clock.now += seconds * 0.2
    assert turns.limit() == ALONE


def test_a_long_turn_presses_who_had_it() -> None:
    # What comes meanwhile waits in the kernel: to whoever reads it, it seems to have come just now.
    clock = Clock()
    turns = Turns(never, clock)
    costly(turns, 2 * GRACE)
    turns.tick()
    turns.press(new=False)
    assert turns.pressed
