"""Localities: by weight, and the own one first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.config.balancing import BalancingConfig, LocalityConfig
from xproxy.model.address import Address
from xproxy.upstream.balance.localities import name_of, weighted, zone_aware
from xproxy.upstream.balance.pools import pools_of
from xproxy.upstream.endpoint import NOWHERE, Endpoint, Locality, Unfit
from xproxy.upstream.host_set import HostSet

ZONE = LocalityConfig(mode="zone_aware", local="a")


def test_names_are_as_they_are_written() -> None:
    assert name_of(Locality("eu", "west", "1")) == "eu/west/1"
    assert name_of(Locality("eu")) == "eu"
    assert name_of(NOWHERE) == ""


def test_a_locality_has_its_weight_while_72_percent_of_it_are_healthy() -> None:
    assert weighted([1, 2], [10, 10], [10, 10], 140) == [1, 2]
    assert weighted([1, 2], [10, 5], [10, 10], 140) == [1, pytest.approx(1.4)]
    assert weighted([1, 0], [0, 10], [10, 10], 140) == [0, 0]


def test_zone_aware_needs_6_endpoints_and_is_for_100_percent() -> None:
    assert (ZONE.min_cluster_size, ZONE.routing_enabled) == (6, 100)
    assert zone_aware(["a", "b"], [3, 2], [0, 0], ZONE) == [0, 0]
    assert zone_aware(["a", "b"], [3, 3], [0, 0], ZONE) == [1, 0]
    half = LocalityConfig(mode="zone_aware", local="a", routing_enabled=50)
    assert zone_aware(["a", "b"], [3, 3], [0, 0], half) == [0.75, 0.25]


def test_the_own_zone_takes_what_it_can_and_others_what_they_have_to_spare() -> None:
    # Half of the proxies, a quarter of the endpoints: half of what comes stays.
    assert zone_aware(["a", "b", "c"], [2, 2, 4], [2, 1, 1], ZONE) == [0.5, 0, 0.5]


def test_it_falls_off_where_zones_say_nothing() -> None:
    assert not any(zone_aware(["b", "c"], [5, 5], [1, 1], ZONE))  # none is the own
    assert not any(zone_aware(["a", "b"], [0, 10], [1, 1], ZONE))  # nobody healthy there
    assert not any(zone_aware(["a", "b"], [5, 5], [0, 3], ZONE))  # no proxies there, as is said


@given(
    zones=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), min_size=1, max_size=6),
    enabled=st.integers(0, 100),
)
def test_shares_are_a_whole_or_nothing(zones: list[tuple[int, int]], enabled: int) -> None:
    config = LocalityConfig(mode="zone_aware", local="0", routing_enabled=enabled)
    names = [str(index) for index in range(len(zones))]
    shares = zone_aware(names, [one for one, _ in zones], [one for _, one in zones], config)
    assert all(share >= 0 for share in shares)
    assert sum(shares) == pytest.approx(1) or not any(shares)


def endpoints(*zones: str) -> list[Endpoint]:
    return [
        Endpoint(Address("127.0.0.1", 1 + index), locality=Locality(zone))
        for index, zone in enumerate(zones)
    ]


def shares(some: list[Endpoint], config: LocalityConfig | None) -> dict[str, float]:
    hosts = HostSet.of(some).at(1.0)
    pools = pools_of(hosts, BalancingConfig(locality=config))
    return {"".join(sorted(one.locality.region for one in p.endpoints)): p.share for p in pools}


def test_pools_are_by_locality_only_where_a_mode_is_chosen() -> None:
    some = endpoints("a", "a", "a", "b", "b", "b")
    assert shares(some, None) == {"aaabbb": 100}
    assert shares(some, ZONE) == {"aaa": 100}
    assert shares(some[:5], ZONE) == {"aaabb": 100}
    by_weight = LocalityConfig(mode="weighted", weights={"a": 3})
    assert shares(some, by_weight) == {"aaa": 75, "bbb": 25}
    some[0].unfit = some[3].unfit = some[4].unfit = Unfit.FAILED_CHECK
    found = shares(some, by_weight)  # 3 × 93 % and 1 × 46 %
    assert found["b"] / found["aa"] == pytest.approx(0.46 / (3 * 0.93))
