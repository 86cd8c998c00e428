from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from xproxy.model.address import Address
from xproxy.upstream.balance.round_robin import RoundRobin
from xproxy.upstream.endpoint import Endpoint


def endpoints(*weights: int) -> list[Endpoint]:
    return [Endpoint(Address("127.0.0.1", 1 + i), weight) for i, weight in enumerate(weights)]


@given(count=st.integers(1, 20), seed=st.integers(0, 1000))
@settings(max_examples=40)
def test_in_turn_without_leaving_anybody_out(count: int, seed: int) -> None:
    choice = endpoints(*[1] * count)
    balancer = RoundRobin(choice, Random(seed))
    picks = [balancer.pick() for _ in range(3 * count)]
    start = choice.index(picks[0])
    assert picks == [choice[(start + i) % count] for i in range(3 * count)]


def test_the_start_is_random() -> None:
    choice = endpoints(1, 1, 1, 1)
    first = Counter(id(RoundRobin(choice, Random(seed)).pick()) for seed in range(400))
    assert len(first) == 4
    assert min(first.values()) > 50


def test_the_start_is_random_with_weights_too() -> None:
    choice = endpoints(2, 2, 1)
    first = {id(RoundRobin(choice, Random(seed)).pick()) for seed in range(100)}
    assert len(first) > 1


def test_unequal_weights_are_kept_exactly() -> None:
    choice = endpoints(1, 2, 4)
    balancer = RoundRobin(choice, Random(8))
    for _ in range(3):
        assert Counter(balancer.pick().weight for _ in range(7)) == {1: 1, 2: 2, 4: 4}
