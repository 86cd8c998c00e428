"""How requests are shared among localities: by weight, or the own one first (semantics of Envoy). Pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

from xproxy.config.balancing import LocalityConfig
from xproxy.upstream.balance.levels import health
from xproxy.upstream.endpoint import Locality


def name_of(locality: Locality) -> str:
    """Return how configurations write a locality: ``region/zone``."""
    return f"{locality.region}/{locality.zone}/{locality.sub_zone}".rstrip("/")


def weighted(
    weights: Sequence[int], healthy: Sequence[int], totals: Sequence[int], factor: int
) -> list[float]:
    """Return the share of each: its weight, as far as it is healthy; overprovisioned like a level."""
    return [
        weight * health(part, total, factor) / 100
        for weight, part, total in zip(weights, healthy, totals, strict=True)
    ]


def zone_aware(
    names: Sequence[str], healthy: Sequence[int], proxies: Sequence[int], config: LocalityConfig
) -> list[float]:
    """Return the share of each locality, for proxies in the own one; all 0 where it makes no difference.

    Where the own one has at least the part of the endpoints that it has of the proxies, it takes all. Else it takes
    what it has for them, and the others what they have more than their own proxies need.
    """
    off = [0.0] * len(names)
    everybody = sum(healthy)
    if everybody < config.min_cluster_size or config.local not in names:
        return off
    own = names.index(config.local)
    if not any(proxies):
        proxies = [1] * len(names)
    needs = [one / sum(proxies) for one in proxies]
    has = [one / everybody for one in healthy]
    if not needs[own] or not has[own]:
        return off  # nobody knows of this proxy, or nobody there is healthy
    kept = min(1.0, has[own] / needs[own])
    spare = [max(0.0, one - need) for one, need in zip(has, needs, strict=True)]
    spare[own] = 0.0
    if kept < 1 and not any(spare):
        return off
    shares = [(1 - kept) * one / (sum(spare) or 1) for one in spare]
    shares[own] = kept
    enabled = config.routing_enabled / 100
    return [enabled * one + (1 - enabled) * part for one, part in zip(shares, has, strict=True)]
