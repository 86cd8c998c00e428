from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.connection.kit import Control, request_of
from xproxy.config.breakers import CircuitBreakersConfig
from xproxy.model.errors import ConnectFailed, Overflow
from xproxy.upstream.breaker import Breaker
from xproxy.upstream.queue import Queue, Waiter
from xproxy.upstream.stats import ClusterStats


def queue_of(most: int = 1024) -> tuple[Queue[int], ClusterStats]:
    stats = ClusterStats()
    limits = CircuitBreakersConfig(max_pending_requests=most, connection_share=100)
    return Queue(Breaker(limits, stats, "web")), stats


def waiter(priority: int = 0, deadline: float = float("inf")) -> Waiter:
    control = Control()
    control.limit(deadline)
    request = request_of(control=control)
    request.record.priority = priority
    return Waiter(request)


def hand(queue: Queue[int], given: int) -> bool:
    first = queue.first()
    if first is not None:
        queue.hand(first, given)
    return first is not None


@attrs.define(eq=False)
class Scene:
    """Requests that wait, by name, and what they got."""

    queue: Queue[int]
    nursery: trio.Nursery
    got: list[tuple[str, int]] = attrs.field(factory=list)
    failed: dict[str, str] = attrs.field(factory=dict)
    scopes: dict[str, trio.CancelScope] = attrs.field(factory=dict)

    async def arrive(self, name: str, one: Waiter | None = None) -> None:
        self.scopes[name] = trio.CancelScope()
        self.nursery.start_soon(self._wait, name, one or waiter())
        await wait_all_tasks_blocked()

    async def _wait(self, name: str, one: Waiter) -> None:
        try:
            with self.scopes[name]:
                self.got.append((name, await self.queue.wait(one)))
        except (ConnectFailed, Overflow) as error:
            self.failed[name] = error.detail


async def test_among_equals_who_came_first_is_first() -> None:
    queue, stats = queue_of()
    async with trio.open_nursery() as nursery:
        scene = Scene(queue, nursery)
        for name in "abc":
            await scene.arrive(name)
        assert stats.upstream_rq_pending_active == 3
        for number in range(3):
            assert hand(queue, number)
    assert sorted(scene.got) == [("a", 0), ("b", 1), ("c", 2)]
    assert not hand(queue, 3)
    assert stats.upstream_rq_pending_active == 0


async def test_a_higher_priority_goes_first() -> None:
    queue, _ = queue_of()
    async with trio.open_nursery() as nursery:
        scene = Scene(queue, nursery)
        for name, priority in (("low", -1), ("usual", 0), ("high", 7), ("next", 7), ("last", 0)):
            await scene.arrive(name, waiter(priority))
        for number in range(5):
            assert hand(queue, number)
            await wait_all_tasks_blocked()
    assert [name for name, _ in scene.got] == ["high", "next", "usual", "last", "low"]


async def test_who_waits_again_keeps_its_turn_and_is_not_refused() -> None:
    queue, stats = queue_of(2)
    async with trio.open_nursery() as nursery:
        scene = Scene(queue, nursery)
        first = waiter()
        await scene.arrive("first", first)
        await scene.arrive("second")
        assert hand(queue, 0)
        await scene.arrive("third")
        await scene.arrive("again", first)
        assert stats.upstream_rq_pending_active == 3
        for number in (1, 2, 3):
            hand(queue, number)
            await wait_all_tasks_blocked()
    assert scene.got == [("first", 0), ("again", 1), ("second", 2), ("third", 3)]


async def test_above_its_bound_it_refuses() -> None:
    queue, stats = queue_of(1)
    async with trio.open_nursery() as nursery:
        scene = Scene(queue, nursery)
        await scene.arrive("a")
        await scene.arrive("b")
        assert "max_pending_requests" in scene.failed["b"]
        assert stats.upstream_rq_pending_overflow == 1
        # Who gives up leaves its place at once.
        scene.scopes["a"].cancel()
        await scene.arrive("c")
        assert hand(queue, 1)
    assert scene.got == [("c", 1)]


async def test_a_deadline_that_passes_frees_the_place(autojump_clock: MockClock) -> None:
    queue, stats = queue_of(1)
    async with trio.open_nursery() as nursery:
        scene = Scene(queue, nursery)
        await scene.arrive("a", waiter(deadline=trio.current_time() + 5))
        scene.scopes["a"].deadline = trio.current_time() + 5
        await trio.sleep(6)
        assert stats.upstream_rq_pending_active == 0
        assert not scene.failed
        await scene.arrive("b")
        assert hand(queue, 1)
    assert scene.got == [("b", 1)]


async def test_nothing_is_handed_to_who_is_late(autojump_clock: MockClock) -> None:
    """Its stream is about to end it: what it got would be sent for nothing."""
    queue, stats = queue_of()
    async with trio.open_nursery() as nursery:
        scene = Scene(queue, nursery)
        await scene.arrive("late", waiter(deadline=trio.current_time() + 5))
        await scene.arrive("b")
        await trio.sleep(5)
        assert hand(queue, 1)
        assert not hand(queue, 2)
        assert stats.upstream_rq_pending_active == 0
        scene.scopes["late"].cancel()
    assert scene.got == [("b", 1)]
    assert stats.upstream_rq_pending_active == 0


async def test_all_who_wait_are_told_of_a_failure() -> None:
    queue, stats = queue_of()
    async with trio.open_nursery() as nursery:
        scene = Scene(queue, nursery)
        for name in "ab":
            await scene.arrive(name)
        queue.fail(ConnectFailed("nobody there"))
    assert scene.failed == {"a": "nobody there", "b": "nobody there"}
    assert stats.upstream_rq_pending_active == 0


@pytest.mark.parametrize("first", ["hand", "cancel"])
async def test_what_is_handed_in_the_moment_of_giving_up_is_not_lost(first: str) -> None:
    queue, _ = queue_of()
    async with trio.open_nursery() as nursery:
        scene = Scene(queue, nursery)
        await scene.arrive("a")
        if first == "cancel":
            scene.scopes["a"].cancel()
        handed = hand(queue, 1)
        scene.scopes["a"].cancel()
    # Either it has it, and finds itself cancelled at its next wait, or whoever handed it still has it.
    assert handed is (scene.got == [("a", 1)])


SCRIPT = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), st.integers(-1, 2)),
        st.tuples(st.just("free"), st.integers(0, 3)),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("expire"), st.integers(0, 30)),
        st.tuples(st.just("pause"), st.just(0)),
    ),
    max_size=40,
)


@given(st.integers(0, 3), SCRIPT)
@settings(max_examples=80, deadline=None)
def test_whatever_happens_nothing_is_lost(places: int, script: list[tuple[str, int]]) -> None:
    """Never more in flight than there are places, nobody waits while there is one, and the order is as promised."""
    trio.run(_play, places, script, clock=MockClock())


async def _play(places: int, script: list[tuple[str, int]]) -> None:
    queue, stats = queue_of()
    free = places
    arrived: list[tuple[Waiter, trio.CancelScope]] = []
    running: list[Callable[[], None]] = []
    in_flight = 0

    def give() -> None:
        nonlocal free
        while free and (first := queue.first()) is not None:
            best = min(w.turn for w in queue.waiting if w.turn is not None)
            assert first.turn == best
            free -= 1
            queue.hand(first, 0)

    async def request(one: Waiter, scope: trio.CancelScope) -> None:
        nonlocal free, in_flight
        with scope:
            if free and not queue.waiting:
                free -= 1
            else:
                await queue.wait(one)
            in_flight += 1
            assert in_flight <= places
            over = trio.Event()
            running.append(over.set)
            try:
                await over.wait()
            finally:
                in_flight -= 1
                running.remove(over.set)
                free += 1
                give()

    async with trio.open_nursery() as nursery:
        for what, number in script:
            if what == "arrive":
                one, scope = waiter(number, deadline=trio.current_time() + 100), trio.CancelScope()
                arrived.append((one, scope))
                nursery.start_soon(request, one, scope)
                await wait_all_tasks_blocked()
            elif what == "free" and running:
                running[number % len(running)]()
            elif what == "cancel" and arrived:
                arrived[number % len(arrived)][1].cancel()
            elif what == "expire" and arrived:
                one, scope = arrived[number % len(arrived)]
                one.request.stream.limit(trio.current_time())
                scope.cancel()
            elif what == "pause":
                await wait_all_tasks_blocked()
                assert free + in_flight == places
                assert not (free and queue.waiting)
                assert stats.upstream_rq_pending_active == len(queue.waiting)
        await wait_all_tasks_blocked()
        assert free + in_flight == places
        assert not (free and queue.waiting)
        nursery.cancel_scope.cancel()
    assert free == places
    assert not queue.waiting
    assert stats.upstream_rq_pending_active == 0
