"""Pools: sets of endpoints that a balancer picks from, and the share of requests that each has.

Mostly there is one: the endpoints of the best priority. Others come in where some are not healthy.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from itertools import groupby

import attrs

from xproxy.config.balancing import BalancingConfig
from xproxy.upstream.balance.levels import Level, loads
from xproxy.upstream.balance.localities import name_of, weighted, zone_aware
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.host_set import Group, HostSet


@attrs.frozen
class Pool:
    """Endpoints that one picker picks from."""

    key: Hashable
    """What it is of: two pools of one key follow each other, and so do their pickers."""
    endpoints: tuple[Endpoint, ...]
    """None: requests that come to it are refused."""
    share: float = 100.0
    """Of the requests, against the shares of the others."""
    panic: bool = False
    """Its endpoints are chosen whether they are fit or not."""


def pools_of(hosts: HostSet, config: BalancingConfig) -> tuple[Pool, ...]:
    """Return the pools of ``hosts`` with the marks that these have been looked at with; at least one."""
    if not hosts.groups:
        return (Pool((0, "healthy"), ()),)
    first = hosts.groups[0].priority
    if all(one.available is one.endpoints for one in hosts.groups if one.priority == first):
        # All is well, and was nearly always.
        best = [one for one in hosts.groups if one.priority == first]
        return tuple(_split(Pool((first, "healthy"), hosts.preferred), best, config, best=True))
    by_priority = [tuple(some) for _, some in groupby(hosts.groups, lambda one: one.priority)]
    levels = [_level(groups) for groups in by_priority]
    found = loads(levels, config.overprovisioning_factor, config.panic_threshold)
    pools = [*_pools(by_priority, found.healthy, found.degraded, found.panic, config)]
    return tuple(pools) if pools else (_last_resort(by_priority, config),)


def _level(groups: Sequence[Group]) -> Level:
    return Level(
        total=sum(len(one.endpoints) for one in groups),
        healthy=sum(len(one.available) for one in groups),
        degraded=sum(len(one.degraded) for one in groups),
        fit=sum(len(fit(one.endpoints)) for one in groups),
    )


def _pools(
    by_priority: Sequence[Sequence[Group]],
    healthy: Sequence[int],
    degraded: Sequence[int],
    panic: Sequence[bool],
    config: BalancingConfig,
) -> Iterator[Pool]:
    for groups, good, worse, panics in zip(by_priority, healthy, degraded, panic, strict=True):
        priority = groups[0].priority
        if panics and good + worse:
            everybody = () if config.fail_traffic_on_panic else _all_of(groups)
            yield Pool((priority, "panic"), everybody, good + worse, panic=True)
            continue
        if good:
            members = tuple([one for group in groups for one in group.available])
            best = priority == by_priority[0][0].priority
            yield from _split(Pool((priority, "healthy"), members, good), groups, config, best=best)
        if worse:
            members = tuple([one for group in groups for one in group.degraded])
            yield Pool((priority, "degraded"), members, worse)


def _split(
    pool: Pool, groups: Sequence[Group], config: BalancingConfig, *, best: bool
) -> Iterator[Pool]:
    """Give a pool of healthy endpoints, or one for each locality where these are told apart."""
    locality = config.locality
    if locality is None or len(groups) < 2 or (locality.mode == "zone_aware" and not best):
        yield pool
        return
    names = [name_of(group.locality) for group in groups]
    healthy = [len(group.available) for group in groups]
    if locality.mode == "weighted":
        totals = [len(group.endpoints) for group in groups]
        weights = [locality.weights.get(name, 1) for name in names]
        shares = weighted(weights, healthy, totals, config.overprovisioning_factor)
    else:
        proxies = [locality.proxies.get(name, 0) for name in names]
        shares = zone_aware(names, healthy, proxies, locality)
    if not any(shares):
        yield pool
        return
    whole = sum(shares)
    for group, share in zip(groups, shares, strict=True):
        if share and group.available:
            key = (pool.key, group.locality)
            yield Pool(key, group.available, pool.share * share / whole)


def _last_resort(by_priority: Sequence[Sequence[Group]], config: BalancingConfig) -> Pool:
    """Nobody is healthy: those that only fail of late, as one of them may be better than its mark; else panic."""
    for groups in by_priority:
        if some := fit(_all_of(groups)):
            return Pool((groups[0].priority, "failing"), some)
    best = by_priority[0]
    refused = config.fail_traffic_on_panic or not config.panic_threshold
    return Pool((best[0].priority, "panic"), () if refused else _all_of(best), panic=True)


def _all_of(groups: Sequence[Group]) -> tuple[Endpoint, ...]:
    return tuple([one for group in groups for one in group.endpoints])


def fit(endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """Return those that nobody says are unhealthy, whether they fail of late or not."""
    return tuple([one for one in endpoints if not one.unfit])
