"""The endpoints of a cluster by priority and locality, with the marks of one moment."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from xproxy.model.address import Address
from xproxy.upstream.endpoint import NOWHERE, Degraded, Endpoint, Locality, Unfit
from xproxy.upstream.host_set import HostSet

EAST = Locality("eu", "east")
WEST = Locality("eu", "west")


def endpoint(
    port: int, until: float = 0.0, priority: int = 0, locality: Locality = NOWHERE
) -> Endpoint:
    made = Endpoint(Address("127.0.0.1", port), priority=priority, locality=locality)
    made.failing_until = until
    return made


def test_groups_are_by_priority_and_then_in_the_order_of_the_file() -> None:
    some = [
        endpoint(1, priority=1, locality=EAST),
        endpoint(2, locality=WEST),
        endpoint(3, locality=EAST),
        endpoint(4, priority=1, locality=EAST),
        endpoint(5, locality=WEST),
    ]
    hosts = HostSet.of(some)
    assert [
        (group.priority, group.locality, [one.address.port for one in group.endpoints])
        for group in hosts.groups
    ] == [(0, WEST, [2, 5]), (0, EAST, [3]), (1, EAST, [1, 4])]
    assert set(hosts.endpoints) == set(some)


@given(st.lists(st.sampled_from([0.0, 5.0, 10.0, 15.0]), min_size=1), st.sampled_from([4, 10, 20]))
def test_available_are_those_whose_mark_is_over(untils: list[float], now: float) -> None:
    some = [endpoint(1 + index, until) for index, until in enumerate(untils)]
    hosts = HostSet.of(some).at(now)
    assert hosts.endpoints == tuple(some)
    assert hosts.preferred == tuple(one for one in some if one.failing_until <= now)
    assert hosts.returns_at == min((t for t in untils if t > now), default=math.inf)
    if hosts.returns_at == math.inf:
        assert hosts.preferred is hosts.endpoints


def test_a_set_does_not_change_with_the_marks() -> None:
    one, other = endpoint(1), endpoint(2)
    hosts = HostSet.of([one, other]).at(1.0)
    one.failing_until = 9.0
    assert hosts.preferred == (one, other)
    assert hosts.at(1.0).preferred == (other,)
    assert hosts.at(9.0).preferred == (one, other)


def test_preferred_is_the_best_priority_that_has_anybody() -> None:
    first, backup, last = endpoint(1), endpoint(2, priority=1), endpoint(3, priority=2)
    hosts = HostSet.of([last, backup, first])
    assert hosts.preferred == (first,)
    first.failing_until = 9.0
    assert hosts.at(1.0).preferred == (backup,)
    backup.failing_until = last.failing_until = 9.0
    assert hosts.at(1.0).preferred == ()


def test_the_unfit_are_left_out_and_the_degraded_are_asked_where_no_healthy_one_is() -> None:
    healthy, degraded, ejected = endpoint(1), endpoint(2), endpoint(3)
    degraded.degraded = Degraded.CHECKED
    ejected.unfit = Unfit.EJECTED
    hosts = HostSet.of([healthy, degraded, ejected]).at(1.0)
    assert hosts.preferred == (healthy,)
    assert hosts.groups[0].degraded == (degraded,)
    healthy.unfit = Unfit.FAILED_CHECK
    assert hosts.at(1.0).preferred == (degraded,)
    degraded.unfit = Unfit.UNCHECKED
    assert hosts.at(1.0).preferred == ()
