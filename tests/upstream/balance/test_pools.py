"""Pools: which endpoints a balancer picks from, by their marks."""

from __future__ import annotations

from xproxy.config.balancing import DEFAULT_BALANCING, BalancingConfig
from xproxy.model.address import Address
from xproxy.upstream.balance.pools import Pool, pools_of
from xproxy.upstream.endpoint import Degraded, Endpoint, Unfit
from xproxy.upstream.host_set import HostSet


def some(text: str, priority: int = 0) -> list[Endpoint]:
    """Return one endpoint a letter: (h)ealthy, (d)egraded, (f)ailing, (u)nfit."""
    made = []
    for index, letter in enumerate(text):
        one = Endpoint(Address("127.0.0.1", 1000 * (priority + 1) + index), priority=priority)
        one.degraded = Degraded.CHECKED if letter == "d" else 0
        one.unfit = Unfit.FAILED_CHECK if letter == "u" else 0
        one.failing_until = 9.0 if letter == "f" else 0.0
        made.append(one)
    return made


def found(
    *levels: str, config: BalancingConfig | None = None
) -> list[tuple[object, list[int], float, bool]]:
    hosts = HostSet.of([one for i, text in enumerate(levels) for one in some(text, i)]).at(1.0)
    pools = pools_of(hosts, config or BalancingConfig())
    return [
        (pool.key, [one.address.port for one in pool.endpoints], pool.share, pool.panic)
        for pool in pools
    ]


def test_of_healthy_endpoints_those_of_the_best_priority_are_one_pool() -> None:
    hosts = HostSet.of([*some("hhh"), *some("u", 1)]).at(1.0)
    assert pools_of(hosts, BalancingConfig()) == (Pool((0, "healthy"), hosts.endpoints[:3]),)


def test_a_level_that_is_not_whole_shares_with_the_next() -> None:
    assert found("hu", "hh") == [
        ((0, "healthy"), [1000], 70, False),
        ((1, "healthy"), [2000, 2001], 30, False),
    ]


def test_degraded_ones_come_after_all_healthy_ones() -> None:
    assert found("hddd", "huuu") == [
        ((0, "healthy"), [1000], 35, False),
        ((0, "degraded"), [1001, 1002, 1003], 30, False),
        ((1, "healthy"), [2000], 35, False),
    ]


def test_in_a_panic_a_level_is_all_of_its_endpoints() -> None:
    assert found("huuu", "huuu") == [
        ((0, "panic"), [1000, 1001, 1002, 1003], 50, True),
        ((1, "panic"), [2000, 2001, 2002, 2003], 50, True),
    ]
    assert found("uu", "uu") == [((0, "panic"), [1000, 1001], 100, True)]


def test_traffic_may_fail_in_a_panic() -> None:
    assert found("huuu", config=BalancingConfig(fail_traffic_on_panic=True)) == [
        ((0, "panic"), [], 100, True)
    ]
    assert found("uu", config=BalancingConfig(fail_traffic_on_panic=True)) == [
        ((0, "panic"), [], 100, True)
    ]


def test_without_panic_nobody_unfit_is_chosen() -> None:
    assert found("huuu", config=BalancingConfig(panic_threshold=0)) == [
        ((0, "healthy"), [1000], 100, False)
    ]
    assert found("uu", config=BalancingConfig(panic_threshold=0)) == [((0, "panic"), [], 100, True)]
    assert found("uf", config=BalancingConfig(panic_threshold=0)) == [
        ((0, "failing"), [1001], 100, False)
    ]


def test_failing_of_late_is_no_panic() -> None:
    assert found("hfff") == [((0, "healthy"), [1000], 100, False)]
    assert found("fff") == [((0, "failing"), [1000, 1001, 1002], 100, False)]
    assert found("uu", "ff") == [((1, "failing"), [2000, 2001], 100, False)]


def test_overprovisioning_may_be_another() -> None:
    assert found("hu", "hh", config=BalancingConfig(overprovisioning_factor=200)) == [
        ((0, "healthy"), [1000], 100, False)
    ]


def test_where_there_is_no_endpoint_there_is_one_empty_pool() -> None:
    (pool,) = pools_of(HostSet.of(()).at(0.0), DEFAULT_BALANCING)
    assert (pool.endpoints, pool.panic) == ((), False)
