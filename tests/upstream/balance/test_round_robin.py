from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from xproxy.model.address import Address
from xproxy.upstream.balance.round_robin import InTurn, RoundRobin
from xproxy.upstream.endpoint import Endpoint


def endpoints(*weights: int) -> list[Endpoint]:
    return [Endpoint(Address("127.0.0.1", 1 + i), weight) for i, weight in enumerate(weights)]


@given(count=st.integers(1, 20), seed=st.integers(0, 1000))
@settings(max_examples=40)
def test_in_turn_without_leaving_anybody_out(count: int, seed: int) -> None:
    choice = endpoints(*[1] * count)
    balancer = RoundRobin(Random(seed)).picker(choice)
    picks = [balancer.pick() for _ in range(3 * count)]
    start = choice.index(picks[0])
    assert picks == [choice[(start + i) % count] for i in range(3 * count)]


def test_the_start_is_random() -> None:
    choice = endpoints(1, 1, 1, 1)
    first = Counter(id(RoundRobin(Random(seed)).picker(choice).pick()) for seed in range(400))
    assert len(first) == 4
    assert min(first.values()) > 50


def test_the_start_is_random_with_weights_too() -> None:
    choice = endpoints(2, 2, 1)
    first = {id(RoundRobin(Random(seed)).picker(choice).pick()) for seed in range(100)}
    assert len(first) > 1


def test_unequal_weights_are_kept_exactly() -> None:
    choice = endpoints(1, 2, 4)
    balancer = RoundRobin(Random(8)).picker(choice)
    for _ in range(3):
        assert Counter(balancer.pick().weight for _ in range(7)) == {1: 1, 2: 2, 4: 4}


@given(
    count=st.integers(1, 12),
    gone=st.sets(st.integers(0, 11)),
    picked=st.integers(0, 30),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60)
def test_the_turn_goes_on_where_it_was_when_some_leave(
    count: int, gone: set[int], picked: int, seed: int
) -> None:
    choice = endpoints(*[1] * count)
    left = [one for index, one in enumerate(choice) if index not in gone] or choice
    balancer = RoundRobin(Random(seed))
    picker = balancer.picker(choice)
    for _ in range(picked):
        last = choice.index(picker.pick())
    wanted = picker.pick() if not picked else choice[(last + 1) % count]
    if not picked:
        wanted = choice[(choice.index(wanted) + 1) % count]
    while wanted not in left:
        wanted = choice[(choice.index(wanted) + 1) % count]
    assert balancer.picker(left, picker).pick() is wanted


def test_with_weights_too_nobody_loses_its_turn() -> None:
    choice = endpoints(1, 2, 4)
    other = endpoints(3)[0]
    balancer = RoundRobin(Random(8))
    picker = balancer.picker(choice)
    for _ in range(3):
        picker.pick()
    picker = balancer.picker([*choice, other], picker)
    with_other = Counter(id(picker.pick()) for _ in range(1000))
    for one in (*choice, other):
        assert abs(with_other[id(one)] - 100 * one.weight) <= 1


def test_a_weight_that_has_grown_shows_at_once() -> None:
    choice = endpoints(1, 1000)
    balancer = RoundRobin(Random(1))
    picker = balancer.picker(choice)
    for _ in range(10):
        picker.pick()
    choice[0].weight = 1000
    choice[1].weight = 999
    picker = balancer.picker(choice, picker)
    picks = Counter(id(picker.pick()) for _ in range(10))
    assert picks[id(choice[0])] >= 4  # its old turn was a thousand picks away


def test_those_it_avoids_are_not_asked_although_it_is_their_turn() -> None:
    choice = endpoints(1, 1, 1)
    picker = RoundRobin(Random(1)).picker(choice)
    first = choice.index(picker.pick())
    second, third = choice[(first + 1) % 3], choice[(first + 2) % 3]
    assert picker.pick(avoid=[second]) is third


@given(count=st.integers(1, 20), picked=st.integers(0, 40))
@settings(max_examples=40)
def test_another_process_goes_on_with_the_next(count: int, picked: int) -> None:
    here, there = endpoints(*[1] * count), endpoints(*[1] * count)
    ours, theirs = (RoundRobin(Random(seed)).picker(e) for seed, e in enumerate((here, there)))
    for _ in range(picked):
        ours.pick()
    theirs.resume(ours.carry())
    for _ in range(2 * count):
        assert here.index(ours.pick()) == there.index(theirs.pick())


def test_an_endpoint_that_is_not_there_loses_its_turn() -> None:
    here, there = endpoints(1, 1, 1, 1), endpoints(1, 1, 1, 1)[2:]
    ours, theirs = InTurn(here, 1), InTurn(there, 1)
    theirs.resume(ours.carry())
    assert theirs.pick() is there[0]
    theirs.resume(InTurn(here[:2], 0).carry())
    assert theirs.pick() is there[1], "nothing is known of those that are here"
