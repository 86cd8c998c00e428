"""Choosing where requests say themselves where they go: an endpoint is made for an address when one goes there."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from typing import Final

from xproxy.config.schema import EndpointConfig
from xproxy.model.address import Address
from xproxy.model.errors import NoHealthyEndpoint
from xproxy.stream.exchange import Request
from xproxy.upstream.balance.api import Picker
from xproxy.upstream.balance.spread import Nobody
from xproxy.upstream.discovery.api import SupportsDestination
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.membership import Membership
from xproxy.upstream.stats import ClusterStats
from xproxy.upstream.ticker import TICK, Ticker


class Destinations:
    """Stands where a cluster has a ``Choice`` otherwise. Endpoints that nothing uses for a while are removed."""

    __slots__ = (
        "_added",
        "_by_address",
        "_every",
        "_membership",
        "_of",
        "_remove",
        "_seen",
        "_stats",
        "_ticker",
    )

    def __init__(
        self,
        of: SupportsDestination,
        membership: Membership,
        ticker: Ticker,
        stats: ClusterStats,
        added: Callable[[Endpoint], None],
        remove: Callable[[Sequence[Endpoint]], None],
    ) -> None:
        """``added`` is called with each that came into ``membership``, ``remove`` with those that were taken out."""
        self._of = of
        self._membership = membership
        self._ticker = ticker
        self._stats = stats
        self._added = added
        self._remove = remove
        self._every: Final = max(1, math.ceil(of.cleanup_interval / TICK))
        self._by_address: dict[Address, Endpoint] = {}
        self._seen: dict[Endpoint, int] = {}
        # What each had served when it was last looked at.
        self.change(membership.endpoints)

    @property
    def picker(self) -> Picker:
        """Nothing is picked."""
        return Nobody(self._stats)

    @property
    def slow_start(self) -> bool:
        """See Choice: nobody begins with little."""
        return False

    def probe(self, endpoints: Sequence[Endpoint]) -> None:
        """See Choice: anything goes."""

    def marked(self) -> None:
        """See Choice. There is no other endpoint to go to: a mark changes nothing."""

    def change(self, endpoints: Sequence[Endpoint]) -> None:
        """See Choice: go on with these."""
        self._by_address = {one.address: one for one in endpoints}
        self._seen = {one: one.total for one in endpoints}
        if self._seen:
            self._ticker.watch(self, self._every)

    @property
    def found(self) -> Sequence[EndpointConfig] | None:
        """What goes along to another process; None: nothing does."""
        return [EndpointConfig(address=one) for one in self._by_address] or None

    def learn(self, found: Sequence[EndpointConfig]) -> None:
        """Have endpoints at these addresses: connections to them come along."""
        for config in found[: self._of.max_endpoints]:
            if config.address not in self._by_address:
                self._add(config.address)

    def choose(self, request: Request) -> Endpoint:
        """Return the endpoint for ``request``. Raises NoHealthyEndpoint."""
        try:
            address = self._of.destination(request)
            return self._by_address.get(address) or self._add(address)
        except NoHealthyEndpoint:
            self._stats.upstream_cx_none_healthy += 1
            raise

    def _add(self, address: Address) -> Endpoint:
        most = self._of.max_endpoints
        if len(self._by_address) >= most:
            self._forget([one for one in self._seen if one.drained][: max(1, most // 16)])
        if len(self._by_address) >= most:
            raise NoHealthyEndpoint(
                f"{most} destinations are in use, {address} is one too many (max_endpoints)"
            )
        endpoint = self._membership.add(EndpointConfig(address=address))
        self._by_address[address] = endpoint
        self._seen[endpoint] = -1
        self._added(endpoint)
        self._ticker.watch(self, self._every)
        return endpoint

    def tick(self, tick: int) -> int:
        """See Ticked: remove those that nothing has used since the last time."""
        idle = [one for one, total in self._seen.items() if one.drained and one.total == total]
        self._forget(idle)
        for endpoint in self._seen:
            self._seen[endpoint] = endpoint.total
        return self._every if self._seen else 0

    def _forget(self, endpoints: Sequence[Endpoint]) -> None:
        if endpoints:
            gone: Container[Endpoint] = set(endpoints)
            for endpoint in endpoints:
                endpoint.leaving = True
                del self._by_address[endpoint.address]
                del self._seen[endpoint]
            self._membership.remove(gone)
            self._remove(endpoints)
