from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from xproxy.model.address import Address
from xproxy.upstream.balance.edf import EarliestDeadlineFirst
from xproxy.upstream.endpoint import Endpoint


def endpoints(weights: list[int]) -> list[Endpoint]:
    return [Endpoint(Address("127.0.0.1", 1 + i), weight) for i, weight in enumerate(weights)]


def edf(choice: list[Endpoint], start: int = 0) -> EarliestDeadlineFirst:
    return EarliestDeadlineFirst(choice, start, lambda e: e.weight)


@given(
    weights=st.lists(st.integers(1, 20), min_size=1, max_size=8),
    start=st.integers(0, 7),
    rounds=st.integers(1, 4),
)
@settings(max_examples=60)
def test_proportions_are_exact_after_whole_rounds(
    weights: list[int], start: int, rounds: int
) -> None:
    choice = endpoints(weights)
    balancer = edf(choice, start % len(weights))
    picks = Counter(id(balancer.pick()) for _ in range(rounds * sum(weights)))
    # Deadlines are sums of 1 / weight: rounding may move one pick across the end of a round.
    for endpoint in choice:
        assert abs(picks[id(endpoint)] - rounds * endpoint.weight) <= 1


def test_powers_of_two_are_exact_to_the_pick() -> None:
    choice = endpoints([1, 2, 4, 8])
    balancer = edf(choice)
    for _ in range(5):
        picks = Counter(balancer.pick().weight for _ in range(15))
        assert picks == {1: 1, 2: 2, 4: 4, 8: 8}


@given(weights=st.lists(st.integers(1, 50), min_size=2, max_size=6))
@settings(max_examples=40)
def test_nobody_runs_far_ahead_of_its_share(weights: list[int]) -> None:
    choice = endpoints(weights)
    balancer = edf(choice)
    total = sum(weights)
    seen: Counter[int] = Counter()
    for n in range(1, 3 * total):
        seen[id(balancer.pick())] += 1
        for endpoint in choice:
            assert seen[id(endpoint)] <= n * endpoint.weight / total + len(weights)


def test_of_two_that_are_due_the_one_that_waited_longer_goes_first() -> None:
    first, second, third = endpoints([1, 1, 1])
    balancer = edf([first, second, third], start=1)
    assert [balancer.pick() for _ in range(6)] == [second, third, first] * 2


def test_weights_are_asked_anew_at_each_pick() -> None:
    busy, free = endpoints([4, 4])
    balancer = EarliestDeadlineFirst([busy, free], 0, lambda e: e.weight / (e.active + 1))
    busy.active = 3
    picks = Counter(id(balancer.pick()) for _ in range(50))
    assert abs(picks[id(free)] - 40) <= 1


def test_those_it_avoids_stay_due() -> None:
    first, second, third = endpoints([1, 1, 1])
    balancer = edf([first, second, third])
    assert balancer.pick(avoid=[first, second]) is third
    assert [balancer.pick() for _ in range(3)] == [first, second, third]
    assert balancer.pick(avoid=[first, second, third]) is first
    assert [balancer.pick() for _ in range(3)] == [second, third, first]


@given(
    # Of others a rounding may change the order of two that are due at once.
    weights=st.lists(st.sampled_from([1, 2, 4, 8]), min_size=1, max_size=8),
    start=st.integers(0, 7),
    picked=st.integers(0, 60),
)
@settings(max_examples=60)
def test_another_process_picks_what_would_have_been_picked(
    weights: list[int], start: int, picked: int
) -> None:
    here, there = endpoints(weights), endpoints(weights)
    ours, theirs = edf(here, start % len(weights)), edf(there)
    for _ in range(picked):
        ours.pick()
    carried = ours.carry()
    assert carried == ours.carry()
    theirs.resume(carried)
    for _ in range(sum(weights)):
        assert here.index(ours.pick()) == there.index(theirs.pick())


def test_who_is_not_told_of_has_had_its_turn() -> None:
    here, there = endpoints([1, 1]), endpoints([1, 1, 1])
    ours, theirs = edf(here, 1), edf(there)
    theirs.resume(ours.carry())
    assert [there.index(theirs.pick()) for _ in range(3)] == [1, 0, 2]
