"""Circuit breakers: what is too much for a cluster fails at once (semantics of Envoy, one process's share).

Each priority has bounds of its own, for requests, those that wait, and retries. Connections serve requests of every
priority: they are counted together, and who would have one opened is bound by its own priority's number.
"""

from __future__ import annotations

from collections.abc import ItemsView
from typing import Final, NoReturn, final
from weakref import ReferenceType, ref

import attrs

from xproxy.config.breakers import CircuitBreakersConfig, ThresholdsConfig
from xproxy.model.errors import Overflow
from xproxy.stream.exchange import Request
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.stats import ClusterStats

_UNBOUNDED: Final = 1 << 62


@attrs.define(eq=False)
class Thresholds:
    """The bounds of one priority. Also the permits for retries of its requests (``RetryPermits``)."""

    limits: ThresholdsConfig
    stats: ClusterStats
    name: str
    _retrying: dict[int, int] = attrs.field(factory=dict, init=False, repr=False)
    """Retries in flight, of each client's connection that has any."""

    # Of the default priority is what is not of the high one: so that most requests count once.

    @property
    def requests(self) -> int:
        """Its requests in flight, those that wait included."""
        return self.stats.upstream_rq_active - self.stats.upstream_rq_high_active

    @property
    def pending(self) -> int:
        """Its requests that wait for a connection."""
        return self.stats.upstream_rq_pending_active - self.stats.upstream_rq_high_pending_active

    @property
    def retries(self) -> int:
        """Its retries in flight."""
        return self.stats.upstream_rq_retry_active - self.stats.upstream_rq_high_retry_active

    @property
    def most_retries(self) -> int:
        """Retries that may be in flight now: a number, or a share of the requests in flight."""
        budget = self.limits.retry_budget
        if budget is None:
            return self.limits.max_retries
        share = int(self.requests * budget.budget_percent / 100)
        return max(share, budget.min_retry_concurrency)

    @property
    def ample(self) -> int:
        """Requests in flight below which ``check_request`` refuses nothing, and need not be asked."""
        return self._share(self.limits.max_requests)

    def remaining(self) -> dict[str, int]:
        """Return how much of each bound is left, by Envoy's names."""
        limits, stats = self.limits, self.stats
        pools = limits.max_connection_pools or _UNBOUNDED
        left = {
            "remaining_cx": limits.max_connections - stats.upstream_cx_active,
            "remaining_cx_pools": pools - stats.upstream_cx_pools,
            "remaining_pending": limits.max_pending_requests - self.pending,
            "remaining_rq": limits.max_requests - self.requests,
            "remaining_retries": self.most_retries - self.retries,
        }
        return {name: max(count, 0) for name, count in left.items() if count < _UNBOUNDED >> 1}

    def _share(self, most: int) -> int:
        """Return what one client's connection may have of a bound: at least one, if there is any."""
        return -(-most * self.limits.connection_share // 100)

    def check_request(self, request: Request) -> None:
        """Raise Overflow if a request would be above ``max_requests``, or above its connection's share of them."""
        limits = self.limits
        if self.requests >= limits.max_requests:
            self._refuse(f"{limits.max_requests} requests are in flight (max_requests)")
        self._check_share(request, limits.max_requests, "max_requests")

    def check_pending(self, request: Request) -> None:
        """Raise Overflow if a request may not wait for a connection."""
        limits = self.limits
        waiting = self.pending
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

    def check_pool(self) -> None:
        """Raise Overflow if there may not be another pool of connections."""
        most = self.limits.max_connection_pools
        if most is not None and self.stats.upstream_cx_pools >= most:
            self.stats.upstream_cx_pool_overflow += 1
            raise Overflow(
                f"cluster {self.name}: {most} pools of connections are in use (max_connection_pools)"
            )

    def can_connect(self, usable: int, granted: int, endpoint: Endpoint | None) -> bool:
        """See ``Breaker.can_connect``."""
        if usable + granted == 0:
            return True
        limits = self.limits
        if self.stats.upstream_cx_active + granted >= limits.max_connections:
            return False
        most = limits.max_connections_per_endpoint
        return most is None or endpoint is None or endpoint.connections + granted < most

    def acquire(self, client: int) -> bool:
        """Take a permit for one retry in flight; False: the original outcome goes on.

        A client's connection has its share of the permits: one all of whose requests fail leaves some to others.
        """
        most = self.most_retries
        own = self._retrying.get(client, 0)
        if self.retries >= most or own >= self._share(most):
            self.stats.upstream_rq_retry_overflow += 1
            return False
        self._retrying[client] = own + 1
        self._count_retry(1)
        self.stats.upstream_rq_retry += 1
        return True

    def release(self, client: int) -> None:
        """Give a retry permit back."""
        self._count_retry(-1)
        left = self._retrying[client] - 1
        if left:
            self._retrying[client] = left
        else:
            del self._retrying[client]

    def count_pending(self, by: int) -> None:
        """So many more wait for a connection."""
        self.stats.upstream_rq_pending_active += by

    def _count_retry(self, by: int) -> None:
        self.stats.upstream_rq_retry_active += by


@final
class HighThresholds(Thresholds):
    """The bounds of the high priority."""

    @property
    def requests(self) -> int:
        """See Thresholds."""
        return self.stats.upstream_rq_high_active

    @property
    def pending(self) -> int:
        """See Thresholds."""
        return self.stats.upstream_rq_high_pending_active

    @property
    def retries(self) -> int:
        """See Thresholds."""
        return self.stats.upstream_rq_high_retry_active

    def count_pending(self, by: int) -> None:
        """See Thresholds."""
        self.stats.upstream_rq_pending_active += by
        self.stats.upstream_rq_high_pending_active += by

    def _count_retry(self, by: int) -> None:
        self.stats.upstream_rq_retry_active += by
        self.stats.upstream_rq_high_retry_active += by


class Breaker(Thresholds):
    """Decides by the cluster's own gauges, and by what a client has in flight; holds nothing but the limits.

    Its own bounds are those of the default priority.
    """

    __slots__ = ("high",)

    def __init__(self, config: CircuitBreakersConfig, stats: ClusterStats, name: str) -> None:
        super().__init__(config.of("default"), stats, name)
        self.high = HighThresholds(config.of("high"), stats, name)
        """Of requests whose priority is above 0."""
        tracked: dict[str, ReferenceType[Thresholds]] = {
            label: ref(one)
            for label, one in (("default", self), ("high", self.high))
            if one.limits.track_remaining
        }
        stats.remaining = Remaining(tracked) if tracked else {}

    def of(self, request: Request) -> Thresholds:
        """Return the bounds of a request's priority."""
        return self.high if request.record.priority > 0 else self

    @property
    def ample(self) -> int:
        """See Thresholds: of both priorities together."""
        return min(super().ample, self.high.ample)

    def check_request(self, request: Request) -> None:
        """See Thresholds."""
        if request.record.priority > 0:
            self.high.check_request(request)
        else:
            super().check_request(request)

    def may_connect(
        self,
        usable: int,
        granted: int = 0,
        endpoint: Endpoint | None = None,
        request: Request | None = None,
    ) -> bool:
        """As ``can_connect``, for a request that would have one opened: it is counted if it may not."""
        if self.can_connect(usable, granted, endpoint, request):
            return True
        self.stats.upstream_cx_overflow += 1
        return False

    def can_connect(
        self,
        usable: int,
        granted: int = 0,
        endpoint: Endpoint | None = None,
        request: Request | None = None,
    ) -> bool:
        """Whether another connection may be opened, beside ``usable`` ones that could serve the same request.

        One is always allowed, even above the limit: whoever waits has a connection to wait for. ``granted``: so many
        have leave to open one, and are not counted yet. ``endpoint``: where to; its own connections count, too.
        """
        if request is not None and request.record.priority > 0:
            return self.high.can_connect(usable, granted, endpoint)
        return super().can_connect(usable, granted, endpoint)

    def check_connect(self, endpoint: Endpoint, request: Request) -> None:
        """Raise Overflow if a client that needs a connection of its own to ``endpoint`` cannot have one."""
        if not self.may_connect(endpoint.connections, 0, endpoint, request):
            limits = self.of(request).limits
            most, name = limits.max_connections, "max_connections"
            each = limits.max_connections_per_endpoint
            if each is not None and self.stats.upstream_cx_active < most:
                most, name = each, "max_connections_per_endpoint"
            raise Overflow(f"cluster {self.name}: {most} connections are open ({name})")


@final
class Remaining(dict[str, int]):
    """What is left of each bound, computed when somebody asks: no request pays for it."""

    __slots__ = ("_tracked",)

    def __init__(self, tracked: dict[str, ReferenceType[Thresholds]]) -> None:
        super().__init__()
        # Weak: the statistics are the breaker's own, and would be in a circle with it.
        self._tracked = tracked

    def items(self) -> ItemsView[str, int]:  # type: ignore[override]  # a view of what is computed
        """Give what is left by ``<priority>.<name>``."""
        found: dict[str, int] = {}
        for label, reference in self._tracked.items():
            one = reference()
            if one is not None:
                for name, count in one.remaining().items():
                    found[f"{label}.{name}"] = count
        return found.items()
