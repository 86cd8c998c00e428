"""Circuit breakers: what is too much for a cluster fails at once (semantics of Envoy, one process's share)."""

from __future__ import annotations

from typing import NoReturn

import attrs

from xproxy.config.schema import CircuitBreakersConfig
from xproxy.model.errors import Overflow
from xproxy.stream.exchange import Request
from xproxy.upstream.stats import ClusterStats


@attrs.define(eq=False)
class Breaker:
    """Decides by the cluster's own gauges, and by what a client has in flight; holds nothing but the limits."""

    limits: CircuitBreakersConfig
    stats: ClusterStats
    name: str
    _retrying: dict[int, int] = attrs.field(factory=dict, init=False, repr=False)
    """Retries in flight, of each client's connection that has any."""

    @property
    def ample(self) -> int:
        """Requests in flight below which ``check_request`` refuses nothing, and need not be asked."""
        return self._share(self.limits.max_requests)

    def _share(self, most: int) -> int:
        """Return what one client's connection may have of a bound: at least one, if there is any."""
        return -(-most * self.limits.connection_share // 100)

    def check_request(self, request: Request) -> None:
        """Raise Overflow if a request would be above ``max_requests``, or above its connection's share of them."""
        limits = self.limits
        if self.stats.upstream_rq_active >= limits.max_requests:
            self._refuse(f"{limits.max_requests} requests are in flight (max_requests)")
        self._check_share(request, limits.max_requests, "max_requests")

    def check_pending(self, request: Request) -> None:
        """Raise Overflow if a request may not wait for a connection."""
        limits = self.limits
        waiting = self.stats.upstream_rq_pending_active
        if waiting >= limits.max_pending_requests:
            self._refuse(
                f"{limits.max_pending_requests} requests wait for a connection (max_pending_requests)"
            )
        if waiting >= self._share(limits.max_pending_requests):
            self._check_share(request, limits.max_pending_requests, "max_pending_requests")

    def _check_share(self, request: Request, most: int, name: str) -> None:
        # Counted when it matters: a count for each connection and cluster would cost every request.
        share = self._share(most)
        downstream = request.connection.downstream
        if (
            share < most
            and downstream is not None
            and downstream.streams > share
            and downstream.in_flight(self) >= share
        ):
            self._refuse(
                f"{share} requests of one client's connection are in flight,"
                f" {self.limits.connection_share} % of {name} (connection_share)"
            )

    def _refuse(self, detail: str) -> NoReturn:
        self.stats.upstream_rq_pending_overflow += 1
        raise Overflow(f"cluster {self.name}: {detail}")

    def may_connect(self, usable: int, granted: int = 0) -> bool:
        """As ``can_connect``, for a request that would have one opened: it is counted if it may not."""
        if self.can_connect(usable, granted):
            return True
        self.stats.upstream_cx_overflow += 1
        return False

    def can_connect(self, usable: int, granted: int = 0) -> bool:
        """Whether another connection may be opened, beside ``usable`` ones that could serve the same request.

        One is always allowed, even above the limit: whoever waits has a connection to wait for. ``granted``: so many
        have leave to open one, and are not counted yet.
        """
        most = self.limits.max_connections
        return self.stats.upstream_cx_active + granted < most or usable + granted == 0

    def check_connect(self, connections_of_endpoint: int) -> None:
        """Raise Overflow if a client that needs a connection of its own cannot have one."""
        if not self.may_connect(connections_of_endpoint):
            raise Overflow(
                f"cluster {self.name}: {self.limits.max_connections} connections are open (max_connections)"
            )

    def acquire(self, client: int) -> bool:
        """Take a permit for one retry in flight; False: the original outcome goes on.

        A client's connection has its share of the permits: one all of whose requests fail leaves some to others.
        """
        most = self.limits.max_retries
        own = self._retrying.get(client, 0)
        if self.stats.upstream_rq_retry_active >= most or own >= self._share(most):
            self.stats.upstream_rq_retry_overflow += 1
            return False
        self._retrying[client] = own + 1
        self.stats.upstream_rq_retry_active += 1
        self.stats.upstream_rq_retry += 1
        return True

    def release(self, client: int) -> None:
        """Give a retry permit back."""
        self.stats.upstream_rq_retry_active -= 1
        left = self._retrying[client] - 1
        if left:
            self._retrying[client] = left
        else:
            del self._retrying[client]
