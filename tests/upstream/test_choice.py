"""Choosing: available ones that were not tried, then the others; and what that costs among very many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from random import Random

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.attempts import attempt_of
from tests.upstream.balance.test_api import BALANCERS, REQUEST, endpoints, make
from xproxy.config.balancing import BalancingConfig
from xproxy.model.errors import NoHealthyEndpoint
from xproxy.stream.ending import GIVEN_UP
from xproxy.stream.exchange import Request
from xproxy.upstream.balance.api import LoadBalancer, Picker
from xproxy.upstream.balance.round_robin import RoundRobin
from xproxy.upstream.choice import Choice
from xproxy.upstream.endpoint import Endpoint, Unfit
from xproxy.upstream.stats import ClusterStats

FAILURE = 10.0


def ask(choice: Choice, *tried: Endpoint) -> Endpoint:
    """Choose for a request for which some were tried."""
    REQUEST.record.attempt = None
    for endpoint in tried:
        attempt_of(REQUEST, endpoint).end(GIVEN_UP)
    return choice.choose(REQUEST)


def mark(choice: Choice, endpoint: Endpoint) -> None:
    """Mark as a cluster does."""
    now = trio.current_time()
    if endpoint.failing_until <= now:
        choice.marked()
    endpoint.failing_until = now + FAILURE


class Deaf:
    """A balancer that does not look at what it is to avoid, and always picks one of the first two."""

    def __init__(self) -> None:
        self.endpoints: Sequence[Endpoint] = ()
        self.turn = 0

    def picker(self, endpoints: Sequence[Endpoint], previous: Picker | None) -> Deaf:
        self.endpoints = endpoints
        return self

    def pick(self, request: Request, avoid: Container[object]) -> Endpoint:
        self.turn += 1
        return self.endpoints[self.turn % min(2, len(self.endpoints))]


def balancer_of(name: str, seed: int) -> LoadBalancer:
    return Deaf() if name == "deaf" else make(name)(Random(seed))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("mark"), st.sets(st.integers(0, 39), max_size=5)),
        st.tuples(st.just("choose"), st.sets(st.integers(0, 39), max_size=5)),
        st.tuples(st.just("wait"), st.sampled_from([{1}, {4}, {11}])),
        st.tuples(st.just("change"), st.sets(st.integers(0, 39), min_size=1)),
    ),
    max_size=40,
)


@pytest.mark.parametrize("name", [*BALANCERS, "deaf"])
@given(
    weights=st.lists(st.integers(1, 5), min_size=1, max_size=40), steps=STEPS, seed=st.integers()
)
@settings(max_examples=80)
def test_failing_ones_are_chosen_when_no_other_is_left_and_removed_ones_never(
    name: str, weights: list[int], steps: list[tuple[str, set[int]]], seed: int
) -> None:
    async def main() -> None:
        every = some = endpoints(weights)
        choice = Choice(balancer_of(name, seed), some)
        for what, numbers in steps:
            picked = [every[number] for number in numbers if number < len(every)]
            if what == "wait":
                clock.jump(sum(numbers))
            elif what == "change":
                some = picked or every
                for one in some:
                    one.weight = 6 - one.weight
                choice.change(some)
                assert choice.hosts.endpoints == tuple(some)
            elif what == "mark":
                for one in picked:
                    mark(choice, one)
            else:
                now = trio.current_time()
                found = ask(choice, *picked)
                assert found in some
                untried = [one for one in some if one not in picked]
                available = [one for one in untried if one.failing_until <= now]
                assert found in (untried or some)
                # Of many, one that has just come back may have to wait until others were asked too.
                if len(some) < 16 or not picked:
                    assert found in (available or untried or some)

    clock = MockClock()
    trio.run(main, clock=clock)


async def test_who_is_back_is_chosen_again(mock_clock: MockClock) -> None:
    some = endpoints([1] * 100)
    choice = Choice(RoundRobin(Random(1)), some)
    for one in some[:50]:
        mark(choice, one)
    assert {ask(choice) for _ in range(200)} == set(some[50:])
    mock_clock.jump(FAILURE)
    assert {ask(choice) for _ in range(200)} == set(some)


@pytest.mark.parametrize("name", BALANCERS)
async def test_where_all_fail_the_load_is_still_spread(name: str) -> None:
    some = endpoints([1] * 20)
    choice = Choice(make(name)(Random(1)), some)
    for one in some:
        mark(choice, one)
    picks = Counter(id(ask(choice)) for _ in range(4000))
    assert len(picks) == 20
    assert min(picks.values()) > 100


async def test_those_that_were_tried_leave_failing_ones_in_turn() -> None:
    some = endpoints([1] * 20)
    choice = Choice(RoundRobin(Random(1)), some)
    for one in some[1:]:
        mark(choice, one)
    picks = Counter(id(ask(choice, some[0])) for _ in range(190))
    assert set(picks.values()) == {10}
    assert id(some[0]) not in picks


async def test_a_cluster_that_takes_anothers_place_sees_its_marks() -> None:
    some = endpoints([1, 1])
    some[0].failing_until = trio.current_time() + FAILURE
    choice = Choice(RoundRobin(Random(1)), some)
    assert {ask(choice) for _ in range(10)} == {some[1]}


class Counting:
    """Counts what it is asked for."""

    def __init__(self) -> None:
        self.balancer = RoundRobin(Random(1))
        self.picks = self.pickers = 0

    def picker(self, endpoints: Sequence[Endpoint], previous: Picker | None) -> Picker:
        self.pickers += 1
        inner = previous.inner if isinstance(previous, CountingPicker) else None
        return CountingPicker(self, self.balancer.picker(endpoints, inner))


class CountingPicker:
    def __init__(self, balancer: Counting, inner: Picker) -> None:
        self.balancer = balancer
        self.inner = inner

    def pick(self, request: Request, avoid: Container[object]) -> Endpoint:
        self.balancer.picks += 1
        return self.inner.pick(request, avoid)


@pytest.mark.parametrize("healthy", [1000, 600, 100, 10, 1, 0])
async def test_a_choice_among_many_that_fail_costs_next_to_nothing(
    healthy: int, mock_clock: MockClock
) -> None:
    some = endpoints([1] * 1000)
    good = set(some[:healthy])
    balancer = Counting()
    choice = Choice(balancer, some)
    total = 20_000
    failed = 0
    for _ in range(total):
        mock_clock.jump(0.002)
        endpoint = ask(choice)
        if endpoint not in good:
            failed += 1
            mark(choice, endpoint)
    # 40 s: each that fails has been asked once in 10 s. That is all a request ever waits for.
    if healthy:
        assert failed <= 5 * (1000 - healthy)
    assert balancer.picks <= 2.2 * total
    assert balancer.pickers <= total / 60


async def test_a_removed_one_is_not_chosen_even_once(mock_clock: MockClock) -> None:
    some = endpoints([1] * 1000)
    choice = Choice(RoundRobin(Random(1)), some)
    last = ask(choice)
    at = some.index(last)
    choice.change([*some[: at + 1], *some[at + 3 :]])
    assert ask(choice) is some[(at + 3) % 1000]  # and the turn goes on


async def test_weights_that_change_hold_from_the_next_choice(mock_clock: MockClock) -> None:
    some = endpoints([1, 1])
    choice = Choice(RoundRobin(Random(1)), some)
    ask(choice)
    some[0].weight = 9
    choice.change(some)
    assert Counter(id(ask(choice)) for _ in range(100)) == {id(some[0]): 90, id(some[1]): 10}


def unfit(choice: Choice, *some: Endpoint) -> None:
    for one in some:
        one.unfit = Unfit.FAILED_CHECK
    choice.marked()


async def test_a_cluster_goes_over_to_the_next_priority_as_the_arithmetic_says() -> None:
    some = endpoints([1] * 20)
    for one in some[10:]:
        one.priority = 1
    choice = Choice(RoundRobin(Random(1)), some, random=Random(2))
    assert {ask(choice) for _ in range(50)} == set(some[:10])
    unfit(choice, *some[:5])  # 50/100: 70/30
    picks = Counter(ask(choice).priority for _ in range(10_000))
    assert abs(picks[0] - 7000) < 150
    for one in some[:5]:
        one.unfit = 0
    choice.marked()
    assert {ask(choice) for _ in range(50)} == set(some[:10])


async def test_with_less_than_half_fit_it_panics_and_counts_it() -> None:
    stats = ClusterStats()
    some = endpoints([1] * 4)
    choice = Choice(RoundRobin(Random(1)), some, stats=stats)
    unfit(choice, *some[:2])
    assert {ask(choice) for _ in range(20)} == set(some[2:])
    assert stats.lb_healthy_panic == 0
    unfit(choice, *some[:3])
    assert {ask(choice) for _ in range(20)} == set(some)
    assert stats.lb_healthy_panic == 20


async def test_without_panic_it_refuses_at_once_and_serves_at_once() -> None:
    stats = ClusterStats()
    some = endpoints([1] * 100)
    choice = Choice(RoundRobin(Random(1)), some, BalancingConfig(panic_threshold=0), stats)
    unfit(choice, *some[:99])
    assert {ask(choice) for _ in range(20)} == {some[99]}
    assert ask(choice, some[99]) is some[99]  # even a retry goes to nobody that is unfit
    unfit(choice, *some)
    with pytest.raises(NoHealthyEndpoint, match="no healthy upstream"):
        ask(choice)
    assert stats.upstream_cx_none_healthy == 1
    some[3].unfit = 0
    choice.marked()
    assert ask(choice) is some[3]


async def test_endpoints_may_all_go_and_come_back_and_the_turn_goes_on() -> None:
    stats = ClusterStats()
    some = endpoints([1, 1, 1])
    choice = Choice(RoundRobin(Random(1)), (), stats=stats)
    for refused in (1, 2):
        with pytest.raises(NoHealthyEndpoint):
            ask(choice)
        assert stats.upstream_cx_none_healthy == refused
    choice.probe(())
    choice.change(some)
    first = ask(choice)
    choice.change(())
    with pytest.raises(NoHealthyEndpoint):
        ask(choice)
    choice.change(some)
    assert ask(choice) in some
    assert {ask(choice) for _ in range(3)} == set(some)
    assert first in some


async def test_a_retry_goes_to_nobody_that_is_unfit() -> None:
    """As long as there is no panic: not even where all others were tried."""
    some = endpoints([1] * 4)
    some[3].priority = 1
    choice = Choice(RoundRobin(Random(1)), some)
    unfit(choice, some[0])
    # The next priority has its share, as not all of the first are fit.
    assert {ask(choice, some[1]) for _ in range(20)} <= {some[2], some[3]}
    assert {ask(choice, *some[1:3]) for _ in range(20)} == {some[3]}
    assert {ask(choice, *some[1:]) for _ in range(20)} <= set(some[1:])
