"""Which endpoints a cluster has: those that stay keep all that is known of them, those that go drain.

An endpoint is known by its address. Where an address stands several times, the first of them follows the first, and
so on. One that comes back before it has drained is the one it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from xproxy.config.schema import EndpointConfig
from xproxy.model.address import Address
from xproxy.upstream.endpoint import NOWHERE, Degraded, Endpoint, Locality, Unfit

_UNFIT: Final = {"unhealthy": Unfit.DISCOVERED, "healthy": 0, "degraded": 0}
_DEGRADED: Final = {"degraded": Degraded.DISCOVERED, "healthy": 0, "unhealthy": 0}


class Membership:
    """The endpoints of one cluster, at any time."""

    __slots__ = ("endpoints", "leaving")

    def __init__(self, configs: Sequence[EndpointConfig]) -> None:
        self.endpoints: tuple[Endpoint, ...] = tuple([_new(config) for config in configs])
        """Those that requests go to, in the order of the configuration."""
        self.leaving: list[Endpoint] = []
        """Those that were removed, and have requests or connections yet."""

    def change(self, configs: Sequence[EndpointConfig]) -> list[Endpoint]:
        """Take other endpoints, or other weights; return those that were removed by it."""
        known: dict[Address, list[Endpoint]] = {}
        for endpoint in (*self.endpoints, *self.leaving):
            known.setdefault(endpoint.address, []).append(endpoint)
        for endpoints in known.values():
            endpoints.reverse()  # to be taken from the end
        self.endpoints = tuple([_follow(known.get(config.address), config) for config in configs])
        left = [endpoint for endpoints in known.values() for endpoint in reversed(endpoints)]
        removed = [endpoint for endpoint in left if not endpoint.leaving]
        for endpoint in removed:
            endpoint.leaving = True
        self.leaving = left
        return removed

    def drained(self) -> list[Endpoint]:
        """Forget and return those that have neither requests nor connections any more."""
        gone = [endpoint for endpoint in self.leaving if endpoint.drained]
        if gone:
            self.leaving = [endpoint for endpoint in self.leaving if not endpoint.drained]
        return gone


def _new(config: EndpointConfig) -> Endpoint:
    return _take(Endpoint(config.address), config)


def _take(endpoint: Endpoint, config: EndpointConfig) -> Endpoint:
    endpoint.weight = config.weight
    endpoint.metadata = config.metadata
    endpoint.priority = config.priority
    where = config.region or config.zone or config.sub_zone
    endpoint.locality = Locality(config.region, config.zone, config.sub_zone) if where else NOWHERE
    endpoint.hostname = config.hostname
    endpoint.check_port = config.health_check_port
    endpoint.unfit = endpoint.unfit & ~Unfit.DISCOVERED | _UNFIT[config.health]
    endpoint.degraded = endpoint.degraded & ~Degraded.DISCOVERED | _DEGRADED[config.health]
    return endpoint


def _follow(known: list[Endpoint] | None, config: EndpointConfig) -> Endpoint:
    if not known:
        return _new(config)
    endpoint = known.pop()
    endpoint.leaving = False
    return _take(endpoint, config)


def named(endpoints: Iterable[Endpoint]) -> Iterator[tuple[str, Endpoint]]:
    """Give each endpoint the name that it has in every process: its address, with ``#2`` where that comes again."""
    seen: Counter[Address] = Counter()
    for endpoint in endpoints:
        seen[endpoint.address] += 1
        again = seen[endpoint.address]
        yield f"{endpoint.address}{f'#{again}' if again > 1 else ''}", endpoint
