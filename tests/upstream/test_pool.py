from __future__ import annotations

from typing import cast

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from tests.connection.kit import request_of
from xproxy.config.breakers import CircuitBreakersConfig
from xproxy.connection.serial.upstream import SerialUpstream
from xproxy.upstream.breaker import Breaker
from xproxy.upstream.pool import SerialPool
from xproxy.upstream.queue import Queue, Waiter
from xproxy.upstream.stats import ClusterStats


@attrs.define(eq=False)
class Fake:
    """A connection as the pool sees it."""

    reusable: bool = True
    idle_since: int = 0

    def quiet(self) -> bool:
        return self.reusable


def connection(*, reusable: bool = True, idle_since: int = 0) -> SerialUpstream:
    return cast("SerialUpstream", Fake(reusable, idle_since))


def new_pool() -> SerialPool:
    return SerialPool(Queue(Breaker(CircuitBreakersConfig(), ClusterStats(), "web")))


def break_off(taken: SerialUpstream) -> None:
    cast("Fake", taken).reusable = False


def test_the_last_one_in_is_the_first_one_out() -> None:
    pool = new_pool()
    first, second, third = (connection() for _ in range(3))
    for one in (first, second, third):
        pool.offer(one)
    assert [pool.take() for _ in range(4)] == [third, second, first, None]


def test_one_that_cannot_be_used_is_passed_over_and_left_for_the_lane() -> None:
    pool = new_pool()
    good, bad, worse = connection(), connection(reusable=False), connection(reusable=False)
    for one in (good, bad, worse):
        pool.offer(one)
    assert pool.take() is good
    assert pool.take() is None
    assert pool.idle == [bad, worse]


def test_what_nobody_uses_expires_after_its_ticks() -> None:
    pool = new_pool()
    old, young = connection(idle_since=1), connection(idle_since=5)
    pool.offer(old)
    pool.offer(young)
    assert pool.expire(tick=7, idle_ticks=6) == []
    assert pool.expire(tick=8, idle_ticks=6) == [old]
    assert pool.idle == [young]


def test_what_the_endpoint_closed_expires_at_once() -> None:
    pool = new_pool()
    closed, alive = connection(reusable=False), connection()
    pool.offer(closed)
    pool.offer(alive)
    assert pool.expire(tick=1, idle_ticks=60) == [closed]


def test_no_idle_bound_closes_only_what_is_broken() -> None:
    pool = new_pool()
    pool.offer(connection())
    broken = connection(reusable=False)
    pool.offer(broken)
    assert pool.expire(tick=1_000_000, idle_ticks=0) == [broken]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=30), st.integers(0, 30))
@settings(max_examples=60)
def test_expiring_splits_and_loses_nothing(specs: list[tuple[bool, int]], tick: int) -> None:
    pool = new_pool()
    every = [connection(reusable=ok, idle_since=since) for ok, since in specs]
    for one in every:
        pool.offer(one)
    gone = pool.expire(tick, 5)
    assert [c for c in every if c in gone or c in pool.idle] == every
    assert len(gone) + len(pool.idle) == len(every)


async def test_who_waits_longest_gets_the_next_connection() -> None:
    pool = new_pool()
    order: list[tuple[int, SerialUpstream | None]] = []

    async def wait(number: int) -> None:
        order.append((number, await pool.wait(Waiter(request_of()))))

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(wait, number)
            await wait_all_tasks_blocked()
        offered = [connection() for _ in range(4)]
        for one in offered:
            pool.offer(one)
            await wait_all_tasks_blocked()
    assert order == [(0, offered[0]), (1, offered[1]), (2, offered[2])]
    assert pool.idle == offered[3:]


async def test_a_free_slot_goes_to_who_waits_longest() -> None:
    pool = new_pool()
    got: list[str] = []

    async def wait(name: str) -> None:
        assert await pool.wait(Waiter(request_of())) is None
        got.append(name)

    async with trio.open_nursery() as nursery:
        for name in ("a", "b"):
            nursery.start_soon(wait, name)
            await wait_all_tasks_blocked()
        pool.slot_free()
        assert pool.granted == 1, "whoever else looks sees that somebody is about to open one"
        await wait_all_tasks_blocked()
        assert got == ["a"]
        assert pool.granted == 0
        pool.slot_free()
    assert got == ["a", "b"]


async def test_a_cancelled_waiter_is_passed_over() -> None:
    pool = new_pool()
    got: list[SerialUpstream | None] = []

    async def wait(scope: trio.CancelScope) -> None:
        with scope:
            got.append(await pool.wait(Waiter(request_of())))

    gives_up, stays = trio.CancelScope(), trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, gives_up)
        await wait_all_tasks_blocked()
        nursery.start_soon(wait, stays)
        await wait_all_tasks_blocked()
        gives_up.cancel()
        await wait_all_tasks_blocked()
        one = connection()
        pool.offer(one)
    assert got == [one]
    assert not pool.waiting


async def test_cancelled_with_nobody_behind_the_connection_stays_idle() -> None:
    pool = new_pool()
    with trio.move_on_after(0):
        await pool.wait(Waiter(request_of()))
    one = connection()
    pool.offer(one)
    assert pool.idle == [one]


@pytest.mark.parametrize("first", ["offer", "cancel"])
async def test_offered_and_cancelled_in_one_moment_loses_no_connection(first: str) -> None:
    pool = new_pool()
    got: list[SerialUpstream | None] = []
    scope = trio.CancelScope()

    async def wait() -> None:
        with scope:
            got.append(await pool.wait(Waiter(request_of())))

    one = connection()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        if first == "cancel":
            scope.cancel()
        pool.offer(one)
        scope.cancel()
    # Either the waiter has it (and finds itself cancelled at its next wait), or the pool kept it.
    assert (got, pool.idle) in (([one], []), ([], [one]))


def test_a_taken_connection_is_not_in_the_pool() -> None:
    pool = new_pool()
    one = connection()
    pool.offer(one)
    taken = pool.take()
    assert taken is one
    assert pool.idle == []
    break_off(one)
    assert pool.take() is None
