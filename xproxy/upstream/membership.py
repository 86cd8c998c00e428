"""Which endpoints a cluster has: those that stay keep all that is known of them, those that go drain.

An endpoint is known by its address. Where an address stands several times, the first of them follows the first, and
so on. One that comes back before it has drained is the one it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Final

from xproxy.config.schema import EndpointConfig
from xproxy.model.address import Address
from xproxy.upstream.endpoint import NOWHERE, Degraded, Endpoint, Locality, Unfit

_UNFIT: Final = {"unhealthy": Unfit.DISCOVERED, "healthy": 0, "degraded": 0}
_DEGRADED: Final = {"degraded": Degraded.DISCOVERED, "healthy": 0, "unhealthy": 0}


class Membership:
    """The endpoints of one cluster, at any time."""

    __slots__ = ("_configs", "_counts", "endpoints", "leaving")

    def __init__(self, configs: Sequence[EndpointConfig]) -> None:
        self.endpoints: tuple[Endpoint, ...] = tuple([_new(config) for config in configs])
        """Those that requests go to, in the order of the configuration."""
        self.leaving: list[Endpoint] = []
        """Those that were removed, and have requests or connections yet."""
        self._configs = tuple(configs)
        # What was said of each of them.
        self._counts: Counter[Address] | None = None
        # How often each address stands there; counted when it is first needed.

    def change(self, configs: Sequence[EndpointConfig]) -> list[Endpoint]:
        """Take other endpoints, or other weights; return those that were removed by it.

        Mostly few of many are others: those before and behind them are not looked at, but for what is said of them.
        """
        before, old = self._configs, self.endpoints
        least = min(len(before), len(configs))
        head = _alike(before, configs, least)
        tail = _alike(before[head:][::-1], configs[head:][::-1], least - head)
        if self._repeats(before[head : len(before) - tail], configs[head : len(configs) - tail]):
            head = tail = 0
        known: dict[Address, list[Endpoint]] = {}
        for endpoint in (*old[head : len(old) - tail], *self.leaving):
            known.setdefault(endpoint.address, []).append(endpoint)
        for endpoints in known.values():
            endpoints.reverse()  # to be taken from the end
        changed = [
            _follow(known.get(config.address), config)
            for config in configs[head : len(configs) - tail]
        ]
        self.endpoints = (*old[:head], *changed, *old[len(old) - tail :])
        self._configs = tuple(configs)
        left = [endpoint for endpoints in known.values() for endpoint in reversed(endpoints)]
        removed = [endpoint for endpoint in left if not endpoint.leaving]
        for endpoint in removed:
            endpoint.leaving = True
        self.leaving = left
        return removed

    @property
    def configs(self) -> Sequence[EndpointConfig]:
        """What was said of each of ``endpoints``, in their order."""
        return self._configs

    def _repeats(self, gone: Sequence[EndpointConfig], come: Sequence[EndpointConfig]) -> bool:
        """Count addresses anew; return whether one stood, or stands, several times: which follows which is then said
        by all of them together.
        """
        counts = self._counts
        if counts is None:
            counts = self._counts = Counter([config.address for config in self._configs])
        repeated = counts.total() > len(counts)
        counts.subtract([config.address for config in gone])
        for config in gone:
            if not counts[config.address]:
                del counts[config.address]
        counts.update([config.address for config in come])
        return repeated or counts.total() > len(counts)

    def remove(self, endpoints: Container[Endpoint]) -> None:
        """Have these no more, which have drained."""
        kept = [
            (config, one)
            for config, one in zip(self._configs, self.endpoints, strict=True)
            if one not in endpoints
        ]
        self._configs = tuple([config for config, _ in kept])
        self.endpoints = tuple([one for _, one in kept])
        self._counts = None

    def add(self, config: EndpointConfig) -> Endpoint:
        """Add an endpoint whose address none has; return it."""
        back = next((one for one in self.leaving if one.address == config.address), None)
        if back is not None:
            self.leaving.remove(back)
        endpoint = _follow(None if back is None else [back], config)
        self.endpoints = (*self.endpoints, endpoint)
        self._configs = (*self._configs, config)
        self._counts = None
        return endpoint

    def __iter__(self) -> Iterator[Endpoint]:
        """Give those of the moment."""
        return iter(self.endpoints)

    def drained(self) -> list[Endpoint]:
        """Forget and return those that have neither requests nor connections any more."""
        gone = [endpoint for endpoint in self.leaving if endpoint.drained]
        if gone:
            self.leaving = [endpoint for endpoint in self.leaving if not endpoint.drained]
        return gone


def _alike(one: Sequence[EndpointConfig], other: Sequence[EndpointConfig], most: int) -> int:
    """Return how many are the same at the beginning, ``most`` at most."""
    for index in range(most):
        if one[index] is not other[index] and one[index] != other[index]:
            return index
    return most


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
    endpoint.dial = config.dial
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
