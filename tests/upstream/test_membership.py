"""Endpoints that come, stay and go: by address, and nobody who stays loses anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random
from time import thread_time

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.upstream.balance.test_api import REQUEST
from xproxy.config.schema import EndpointConfig
from xproxy.model.address import Address
from xproxy.upstream.balance.round_robin import RoundRobin
from xproxy.upstream.choice import Choice
from xproxy.upstream.endpoint import NOWHERE, Endpoint, Locality, Unfit
from xproxy.upstream.membership import Membership, named


def config(port: int, weight: int = 1, **metadata: str) -> EndpointConfig:
    return EndpointConfig(address=Address("127.0.0.1", port), weight=weight, metadata=metadata)


def ports(endpoints: Sequence[Endpoint]) -> list[int]:
    return [endpoint.address.port for endpoint in endpoints]


def known(endpoint: Endpoint) -> tuple[float, ...]:
    """Return all that is known of an endpoint."""
    return (
        endpoint.active,
        endpoint.connections,
        endpoint.total,
        endpoint.failed,
        endpoint.failures_in_a_row,
        endpoint.failing_until,
    )


def test_who_stays_is_the_same_with_the_weight_and_metadata_of_now() -> None:
    membership = Membership([config(1), config(2, 2)])
    one, two = membership.endpoints
    one.total, one.failing_until = 7, 99.0
    assert membership.change([config(3), config(1, 5, zone="a")]) == [two]
    three, still = membership.endpoints
    assert still is one
    assert (one.weight, one.metadata, one.total, one.failing_until) == (5, {"zone": "a"}, 7, 99.0)
    assert (three.address.port, three.total) == (3, 0)
    assert (one.leaving, two.leaving, three.leaving) == (False, True, False)


def test_who_goes_is_forgotten_once_it_has_drained() -> None:
    membership = Membership([config(1), config(2)])
    one, two = membership.endpoints
    one.active = one.connections = two.connections = 1
    membership.change([config(3)])
    assert membership.leaving == [one, two]
    assert membership.drained() == []
    one.active = two.connections = 0
    assert membership.drained() == [two]
    one.connections = 0
    assert membership.drained() == [one]
    assert membership.leaving == []


def test_who_comes_back_before_it_has_drained_is_the_one_it_was() -> None:
    membership = Membership([config(1), config(2)])
    one, _ = membership.endpoints
    one.active = 3
    membership.change([config(2)])
    membership.change([config(2), config(1)])
    assert membership.endpoints[1] is one
    assert not one.leaving
    assert membership.leaving == []
    membership.change([config(2)])
    one.active = 0
    membership.drained()
    membership.change([config(2), config(1)])
    assert membership.endpoints[1] is not one


def test_an_address_may_stand_several_times() -> None:
    membership = Membership([config(1, 1), config(1, 2), config(1, 3)])
    first, second, third = membership.endpoints
    assert membership.change([config(1, 4), config(1, 5)]) == [third]
    assert list(membership.endpoints) == [first, second]
    assert (first.weight, second.weight) == (4, 5)
    third.active = 1
    membership.change([config(1)] * 4)
    assert list(membership.endpoints[:3]) == [first, second, third]


@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(1, 6), st.integers(1, 9)), min_size=1, max_size=8),
            st.lists(st.tuples(st.integers(0, 7), st.booleans()), max_size=8),
        ),
        max_size=12,
    )
)
@settings(max_examples=200)
def test_nothing_of_a_kept_endpoint_is_lost_and_removed_ones_are_kept_until_they_drain(
    script: list[tuple[list[tuple[int, int]], list[tuple[int, bool]]]],
) -> None:
    membership = Membership([config(1)])
    number = 0
    for wanted, uses in script:
        before = {id(one): (one, known(one)) for one in membership.endpoints}
        draining = [one for one in membership.leaving if not one.drained]
        removed = membership.change([config(port, weight) for port, weight in wanted])
        now = membership.endpoints
        assert ports(now) == [port for port, _ in wanted]
        assert [one.weight for one in now] == [weight for _, weight in wanted]
        assert len({id(one) for one in now}) == len(now)
        kept = Counter(ports([one for one in now if id(one) in before]))
        had, have = Counter(ports([one for one, _ in before.values()])), Counter(ports(now))
        assert kept == had & have  # as many of each address as there can be
        for one, knew in before.values():
            assert known(one) == knew
            assert (one in removed) is (one not in now)
        assert not any(one.leaving for one in now)
        assert all(one.leaving for one in removed)
        # Whoever is in use is among those that stay or those that drain.
        for one in (*(one for one, _ in before.values()), *draining):
            assert one in now or one in membership.leaving or one.drained
        membership.drained()
        assert not any(one.drained for one in membership.leaving)
        every = [*now, *membership.leaving]
        for index, busy in uses:
            number += 1
            one = every[index % len(every)]
            one.active = one.connections = int(busy)
            one.total, one.failing_until = number, float(number)


def test_each_endpoint_has_a_name_that_is_the_same_everywhere() -> None:
    here = [Endpoint(Address("127.0.0.1", port)) for port in (1, 2, 1, 1)]
    names = [name for name, _ in named(here)]
    assert names == ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:1#2", "127.0.0.1:1#3"]
    assert [endpoint for _, endpoint in named(here)] == here


def test_what_is_told_of_an_endpoint_takes_the_place_of_what_was_told_before() -> None:
    told = EndpointConfig(
        address=Address("127.0.0.1", 1), priority=2, zone="b", hostname="b.test", health="unhealthy"
    )
    membership = Membership([told])
    (one,) = membership.endpoints
    one.unfit |= Unfit.EJECTED
    assert (one.priority, one.locality, one.hostname) == (2, Locality("", "b"), "b.test")
    assert one.unfit == Unfit.DISCOVERED | Unfit.EJECTED
    membership.change([config(1)])
    assert membership.endpoints == (one,)
    assert (one.priority, one.locality, one.hostname) == (0, NOWHERE, "")
    assert one.unfit == Unfit.EJECTED


def test_one_can_be_added_and_is_the_one_that_drains() -> None:
    membership = Membership([config(1)])
    (one,) = membership.endpoints
    one.active = 1
    membership.change([])
    two = membership.add(config(2))
    assert (ports(membership.endpoints), membership.leaving) == ([2], [one])
    assert membership.add(config(1, 3)) is one
    assert (one.leaving, one.weight, membership.leaving) == (False, 3, [])
    assert list(membership) == [two, one]


@settings(max_examples=50)
@given(st.lists(st.lists(st.integers(1, 6), max_size=6), min_size=1, max_size=8))
def test_whatever_is_found_who_stays_keeps_connections_counters_and_health(
    answers: list[list[int]],
) -> None:
    membership = Membership([])
    told: dict[int, tuple[Endpoint, tuple[float, ...], int]] = {}
    for number, answer in enumerate(answers):
        found = list(dict.fromkeys(answer))
        membership.change([config(port) for port in found])
        assert ports(membership.endpoints) == found
        for endpoint in membership.endpoints:
            port = endpoint.address.port
            if port in told:
                assert (endpoint, known(endpoint), endpoint.unfit) == told[port]
            else:
                endpoint.total = endpoint.connections = number + 1
                endpoint.failing_until = number + 0.5
                endpoint.unfit |= Unfit.EJECTED if port % 2 else Unfit.FAILED_CHECK
                told[port] = (endpoint, known(endpoint), endpoint.unfit)
        membership.drained()


async def test_one_of_a_thousand_changes_in_a_few_milliseconds() -> None:
    configs = [config(port) for port in range(1, 1001)]
    membership = Membership(configs)
    choice = Choice(RoundRobin(Random(1)), membership.endpoints)
    spent = []
    for number in range(20):
        configs[number * 7] = config(2000 + number)
        began = thread_time()
        membership.change(tuple(configs))
        choice.change(membership.endpoints)
        choice.choose(REQUEST)
        spent.append(thread_time() - began)
    assert min(spent) < 0.005
