"""Timers against a model: each fires once, at its last deadline, whatever it was before."""

from __future__ import annotations

import math

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from xproxy.transport.timers import Timer, Timers

TIMERS = 4
TOLERATED = 1024
"""Dead entries."""

operations = st.lists(
    st.one_of(
        st.tuples(
            st.just("arm"),
            st.integers(0, TIMERS - 1),
            st.sampled_from([0, 1, 2, 3, 5, 8, math.inf]),
        ),
        st.tuples(st.just("discard"), st.integers(0, TIMERS - 1), st.just(0)),
        st.tuples(st.just("jump"), st.just(0), st.sampled_from([0.5, 1, 2, 4])),
    ),
    max_size=40,
)


@settings(max_examples=200)
@given(operations)
def test_timers_do_what_the_model_does(script: list[tuple[str, int, float]]) -> None:
    async def main(clock: MockClock) -> None:
        timers = Timers()
        real = [Timer() for _ in range(TIMERS)]
        scopes = [trio.CancelScope() for _ in range(TIMERS)]
        deadlines = [math.inf] * TIMERS
        async with trio.open_nursery() as nursery:
            nursery.start_soon(timers.run)
            for kind, index, number in script:
                if kind == "arm":
                    scopes[index] = real[index].scope = trio.CancelScope()
                    real[index].fired = False
                    deadlines[index] = trio.current_time() + number
                    timers.arm(real[index], deadlines[index])
                elif kind == "discard":
                    timers.discard(real[index])
                    deadlines[index] = math.inf
                    real[index].fired = False
                    scopes[index] = trio.CancelScope()
                else:
                    clock.jump(number)
                await wait_all_tasks_blocked()
                for timer, scope, deadline in zip(real, scopes, deadlines, strict=True):
                    due = deadline <= trio.current_time()
                    assert timer.fired is due
                    assert scope.cancel_called is due
            clock.jump(1000)
            await wait_all_tasks_blocked()
            assert len(timers) == 0
            # Nor is anything of it counted: as many dead entries as ever are tolerated, and no more.
            for number in range(TOLERATED + 1):
                assert len(timers) == number
                timers.arm(real[0], trio.current_time() + 1)
                timers.discard(real[0])
            assert len(timers) == 0
            nursery.cancel_scope.cancel()

    clock = MockClock()
    trio.run(main, clock, clock=clock)


@settings(max_examples=60)
@given(st.lists(st.sampled_from([0.25, 0.5, 1, 2, 3]), min_size=1, max_size=12))
def test_a_timer_moved_away_again_and_again_fires_once_at_the_last_deadline(
    steps: list[float],
) -> None:
    async def main(_: MockClock) -> None:
        timers = Timers()
        timer = Timer()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(timers.run)
            with trio.CancelScope() as scope:
                timer.scope = scope
                for step in steps:
                    timers.arm(timer, trio.current_time() + 3.5)
                    await trio.sleep(step)
                last = timer.deadline
                await trio.sleep_forever()
            assert trio.current_time() == last
            assert timer.fired
            # Once only: with the same object armed no more, time may pass.
            timer.scope = again = trio.CancelScope()
            await trio.sleep(100)
            assert not again.cancel_called
            nursery.cancel_scope.cancel()

    clock = MockClock(autojump_threshold=0)
    trio.run(main, clock, clock=clock)


async def test_a_nearer_deadline_wakes_the_sleeping_task(autojump_clock: MockClock) -> None:
    timers = Timers()
    far, near = Timer(), Timer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        timers.arm(far, trio.current_time() + 1000)
        await wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            near.scope = scope
            timers.arm(near, trio.current_time() + 1)
            await trio.sleep(10)
        assert trio.current_time() == pytest.approx(1)
        nursery.cancel_scope.cancel()


async def test_a_timer_armed_before_anybody_runs_them_fires(autojump_clock: MockClock) -> None:
    timers = Timers()
    timer = Timer()
    timer.scope = trio.CancelScope()
    timers.arm(timer, trio.current_time() + 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        await trio.sleep(2)
        assert timer.fired
        nursery.cancel_scope.cancel()


async def test_a_timer_without_a_scope_only_notes_that_it_fired(autojump_clock: MockClock) -> None:
    timers = Timers()
    timer = Timer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        timers.arm(timer, trio.current_time() + 1)
        await trio.sleep(2)
        assert timer.fired
        nursery.cancel_scope.cancel()


def test_the_heap_stays_small_when_timers_come_and_go() -> None:
    timers = Timers()
    alive = [Timer() for _ in range(10)]
    for timer in alive:
        timers.arm(timer, 1e6)
    for number in range(10_000):
        timer = Timer()
        timers.arm(timer, 1000 + number)
        timers.discard(timer)
        assert len(timers) <= 2 * TOLERATED + 20
    for timer in alive:
        assert timer.deadline == 1e6


def test_the_heap_stays_small_when_a_deadline_comes_nearer_again_and_again() -> None:
    timers = Timers()
    timer = Timer()
    for number in range(10_000):
        timers.arm(timer, 1e6 - number)
        assert len(timers) <= 2 * TOLERATED + 20


def test_moving_away_costs_nothing_on_the_heap() -> None:
    timers = Timers()
    timer = Timer()
    for number in range(10_000):
        timers.arm(timer, 1000 + number)
    assert len(timers) == 1


def test_discarding_twice_is_discarding_once() -> None:
    timers = Timers()
    timer = Timer()
    timers.arm(timer, 5)
    for _ in range(2 * TOLERATED):
        timers.discard(timer)
    assert len(timers) == 1, "one dead entry is no reason to tidy up"
