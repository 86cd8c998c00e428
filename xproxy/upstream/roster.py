"""Who belongs to a cluster: its endpoints, from whoever names them, and all that is to know when they change.

They are named by the configuration, by a discovery, or by requests. Whoever stays, by address, keeps what is known of
it; who passes health checks stays though a discovery does not name it any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeAlias, final

import attrs
import trio

from xproxy.config.discovery import STATIC, DiscoveryConfig
from xproxy.config.schema import ClusterConfig, EndpointConfig
from xproxy.upstream.balance.api import LoadBalancer
from xproxy.upstream.choice import Choice
from xproxy.upstream.destinations import Destinations
from xproxy.upstream.discovery.api import Discovery, SupportsDestination
from xproxy.upstream.discovery.finding import Finding
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.health.absent import Absent
from xproxy.upstream.health.marks import Marks
from xproxy.upstream.health.watch import Watch, forget
from xproxy.upstream.membership import Membership
from xproxy.upstream.stats import ClusterStats
from xproxy.upstream.subsets import SubsetChoice, chooser
from xproxy.upstream.ticker import Ticker

AnyChoice: TypeAlias = Choice | SubsetChoice | Destinations
"""What says which endpoint a request goes to."""


@final
class Roster:
    """Of one cluster, made anew where anything but its endpoints is configured otherwise."""

    __slots__ = (
        "_absent",
        "_removed",
        "choice",
        "config",
        "finding",
        "marks",
        "members",
        "watch",
    )

    def __init__(
        self,
        name: str,
        config: ClusterConfig,
        balancer: LoadBalancer,
        stats: ClusterStats,
        ticker: Ticker,
        random: Random,
        previous: Roster | None,
        removed: Callable[[Sequence[Endpoint]], None],
    ) -> None:
        """``previous``: of the cluster whose place this one takes.

        ``removed`` is called with endpoints that a discovery names no more, or no request; those that ``become``
        removes it returns.
        """
        self.config = config
        """The cluster's; its endpoints are what a discovery is asked about."""
        self.watch: Watch | None = None
        """What watches over their health, once it is there: it is told of changes."""
        self.finding: Finding | None = None
        """The discovery at work, where endpoints come from one."""
        self._absent: Absent | None = None
        self._removed: Callable[[Sequence[Endpoint]], None] | None = None
        plugin = config.type.options if isinstance(config.type, DiscoveryConfig) else None
        if plugin is not None:  # else the circle would keep each cluster from being freed
            self._removed = removed
        if isinstance(plugin, Discovery):
            self.finding = Finding(name, plugin, stats, self._find, random)
            if config.health_checks and not config.ignore_health_on_host_removal:
                self._absent = Absent(lambda: self.members.endpoints)
        told = None if previous is None else previous._tell(config)
        self.members = Membership(config.endpoints if config.type == STATIC else told or ())
        """The endpoints of the moment."""
        if previous is not None:
            self._follow(previous)
        endpoints = self.members.endpoints
        self.choice: AnyChoice
        """Among them."""
        if isinstance(plugin, SupportsDestination):
            self.choice = Destinations(plugin, self.members, ticker, stats, self._add, self._remove)
        else:
            self.choice = chooser(balancer, endpoints, config.balancing, stats, random)
        self.marks = Marks(stats, self.choice.marked)
        """What changes what is said of their health."""
        self.marks.recount(endpoints)
        if told is not None:
            self.learn(told)

    def _follow(self, previous: Roster) -> None:
        known = {one.address: one for one in previous.members}
        for endpoint in self.members:
            if endpoint.address in known:
                endpoint.follow(known[endpoint.address])
        forget(self.members.endpoints, self.config)

    # ---- by configuration

    def may_become(self, config: ClusterConfig) -> bool:
        """Whether it can ``become`` so: nothing but endpoints differs. Raises PluginError if its balancer refuses."""
        if config == self.config:
            return True
        if attrs.evolve(config, endpoints=self.config.endpoints) != self.config:
            return False
        if self.config.type == STATIC:
            self.choice.probe(Membership(config.endpoints).endpoints)
        return True

    def become(self, config: ClusterConfig, nursery: trio.Nursery | None) -> Sequence[Endpoint]:
        """Take the endpoints of ``config``, or ask about them in ``nursery``; return those that were removed."""
        removed: Sequence[Endpoint] = ()
        if config.endpoints != self.config.endpoints:
            if config.type == STATIC:
                removed = self._take(config.endpoints)
            elif self.finding is not None and nursery is not None:
                self.finding.restart(nursery, config.endpoints)
                if self._absent is not None:
                    self._absent.begin_anew()
        self.config = config
        return removed

    def _take(self, configs: Sequence[EndpointConfig]) -> Sequence[Endpoint]:
        removed = self.members.change(configs)
        self.choice.change(self.members.endpoints)
        self._changed()
        return removed

    def _changed(self) -> None:
        self.marks.recount(self.members)
        if self.watch is not None:
            self.watch.changed()

    # ---- by discovery

    def discover(self, nursery: trio.Nursery) -> None:
        """Begin to find endpoints, where that is not done already."""
        if self.finding is not None:
            self.finding.begin(nursery, self.config.endpoints)

    def _find(self, found: Sequence[EndpointConfig]) -> None:
        # It may err: who passes health checks stays.
        self._tell_removed(self._take(found if self._absent is None else self._absent.found(found)))

    def lost(self, endpoint: Endpoint) -> None:
        """It is unfit now: if only its health kept it, it goes."""
        after = None if self._absent is None else self._absent.lost(endpoint)
        if after is not None:
            self._tell_removed(self._take(after))

    def _tell_removed(self, removed: Sequence[Endpoint]) -> None:
        if removed and self._removed is not None:
            self._removed(removed)

    # ---- by requests

    def _add(self, endpoint: Endpoint) -> None:
        self.marks.add(endpoint)

    def _remove(self, endpoints: Sequence[Endpoint]) -> None:
        self._changed()
        self._tell_removed(endpoints)

    # ---- for whoever comes after

    def found(self) -> Sequence[EndpointConfig] | None:
        """Return what was found beyond the configuration; None: nothing was yet."""
        if isinstance(self.choice, Destinations):
            return self.choice.found
        # With those that only their health keeps: whoever is told takes them for found until it finds others itself.
        known = self.finding is not None and self.finding.found is not None
        return self.members.configs if known else None

    def _tell(self, config: ClusterConfig) -> Sequence[EndpointConfig] | None:
        asked = self.config.type, self.config.endpoints
        return self.found() if asked == (config.type, config.endpoints) else None

    def learn(self, found: Sequence[EndpointConfig]) -> None:
        """Begin with what another has found; nothing happens where something was found already."""
        if isinstance(self.choice, Destinations):
            self.choice.learn(found)
        elif self.finding is not None:
            self.finding.learn(found)
