"""Subsets: a cluster's endpoints by their metadata, each part with priorities, panic and turns of its own.

Which parts there are the endpoints decide, not the requests: nobody can make more by asking.
(semantics of Envoy: load balancer subsets)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import TypeAlias

from xproxy.config.balancing import BalancingConfig, SubsetsConfig
from xproxy.stream.exchange import Request
from xproxy.upstream.balance.api import LoadBalancer, Picker
from xproxy.upstream.balance.spread import Nobody
from xproxy.upstream.choice import Choice
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.host_set import HostSet
from xproxy.upstream.stats import ClusterStats

Wanted: TypeAlias = frozenset[tuple[str, str]]
"""Names of metadata, and their values."""


def chooser(
    balancer: LoadBalancer,
    endpoints: Sequence[Endpoint],
    config: BalancingConfig,
    stats: ClusterStats,
    random: Random,
) -> Choice | SubsetChoice:
    """Return what chooses among the endpoints of a cluster of this configuration."""
    if config.subsets is None:
        return Choice(balancer, endpoints, config, stats, random)
    return SubsetChoice(balancer, endpoints, config, config.subsets, stats, random)


def parts_of(
    endpoints: Sequence[Endpoint], selectors: Sequence[Sequence[str]]
) -> dict[Wanted, list[Endpoint]]:
    """Return each subset there is; an endpoint that lacks a name of a selector is in none of that one's."""
    parts: dict[Wanted, list[Endpoint]] = {}
    for keys in {frozenset(one) for one in selectors if one}:
        for endpoint in endpoints:
            metadata = endpoint.metadata
            if all(key in metadata for key in keys):
                part = frozenset([(key, metadata[key]) for key in keys])
                parts.setdefault(part, []).append(endpoint)
    return parts


class SubsetChoice:
    """Chooses the subset, and leaves the rest to a ``Choice`` in it; see there for what is not said here."""

    __slots__ = (
        "_any",
        "_balancer",
        "_choices",
        "_config",
        "_default",
        "_headers",
        "_nobody",
        "_parts",
        "_random",
        "_stats",
        "_subsets",
    )

    def __init__(
        self,
        balancer: LoadBalancer,
        endpoints: Sequence[Endpoint],
        config: BalancingConfig,
        subsets: SubsetsConfig,
        stats: ClusterStats,
        random: Random,
    ) -> None:
        self._balancer = balancer
        self._config = config
        self._subsets = subsets
        self._headers = [*subsets.headers.items()]
        self._stats = stats
        self._random = random
        self._nobody = Nobody(stats)
        self._any = Choice(balancer, endpoints, config, stats, random)
        self._choices: dict[Wanted, Choice] = {}
        self._default: Choice | None = None
        self._parts: Mapping[Wanted, Sequence[Endpoint]] = {}
        self._sort(endpoints)

    def _sort(self, endpoints: Sequence[Endpoint]) -> None:
        self._parts = parts_of(endpoints, self._subsets.selectors)
        for wanted in [one for one in self._choices if one not in self._parts]:
            del self._choices[wanted]
        for wanted, choice in self._choices.items():
            choice.change(self._parts[wanted])
        members = [
            one for one in endpoints if self._subsets.default.items() <= one.metadata.items()
        ]
        if not members:
            self._default = None
        elif self._default is None:
            self._default = self._make(members)
        else:
            self._default.change(members)

    def _make(self, endpoints: Sequence[Endpoint]) -> Choice:
        return Choice(self._balancer, endpoints, self._config, self._stats, self._random)

    @property
    def hosts(self) -> HostSet:
        """All that may ever be chosen."""
        return self._any.hosts

    @property
    def slow_start(self) -> bool:
        """See Choice."""
        return self._any.slow_start

    @property
    def picker(self) -> Picker:
        """Of all endpoints."""
        return self._any.picker

    def probe(self, endpoints: Sequence[Endpoint]) -> None:
        """See Choice."""
        self._any.probe(endpoints)

    def change(self, endpoints: Sequence[Endpoint]) -> None:
        """See Choice. A subset that stays goes on where it was."""
        self._any.change(endpoints)
        self._sort(endpoints)

    def marked(self) -> None:
        """See Choice."""
        self._any.marked()
        if self._default is not None:
            self._default.marked()
        for choice in self._choices.values():
            choice.marked()

    def choose(self, request: Request) -> Endpoint:
        """See Choice."""
        choice = self._wanted(request)
        if choice is not None:
            self._stats.lb_subsets_selected += 1
            return choice.choose(request)
        self._stats.lb_subsets_fallback += 1
        match self._subsets.fallback:
            case "any":
                return self._any.choose(request)
            case "default" if self._default is not None:
                return self._default.choose(request)
            case _:
                return self._nobody.pick(request, ())

    def _wanted(self, request: Request) -> Choice | None:
        """Return the choice in the subset that a request wants; None: it wants none that there is."""
        said = dict(request.record.subset)
        for key, header in self._headers:
            if key not in said:
                value = request.head.headers.get(header)
                if value is not None:
                    said[key] = value
        wanted = frozenset(said.items())
        choice = self._choices.get(wanted)
        if choice is None:
            members = self._parts.get(wanted)
            if members is None:
                return None
            if len(self._choices) >= self._subsets.max_subsets:
                del self._choices[next(iter(self._choices))]
            choice = self._choices[wanted] = self._make(members)
        return choice
