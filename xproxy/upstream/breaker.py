"""Circuit breakers: what is too much for a cluster fails at once (semantics of Envoy, one process's share)."""

from __future__ import annotations

from typing import NoReturn

import attrs

from xproxy.config.schema import CircuitBreakersConfig
from xproxy.model.errors import Overflow
from xproxy.upstream.stats import ClusterStats


@attrs.define(eq=False)
class Breaker:
    """Decides by the cluster's own gauges; holds nothing but the limits."""

    limits: CircuitBreakersConfig
    stats: ClusterStats
    name: str

    def refuse_request(self) -> NoReturn:
        """Count and refuse a request above ``max_requests``. Raises Overflow."""
        self.stats.upstream_rq_pending_overflow += 1
        raise Overflow(
            f"cluster {self.name}: {self.limits.max_requests} requests are in flight (max_requests)"
        )

    def check_pending(self, more: int = 0) -> None:
        """Raise Overflow if no request may wait for a connection; ``more`` wait where no gauge counts them."""
        if self.stats.upstream_rq_pending_active + more >= self.limits.max_pending_requests:
            self.stats.upstream_rq_pending_overflow += 1
            raise Overflow(
                f"cluster {self.name}: {self.limits.max_pending_requests} requests wait for a connection"
                " (max_pending_requests)"
            )

    def may_connect(self, usable: int) -> bool:
        """Whether another connection may be opened, beside ``usable`` ones that could serve the same request.

        One is always allowed, even above the limit: whoever waits has a connection to wait for.
        """
        if self.stats.upstream_cx_active < self.limits.max_connections or usable == 0:
            return True
        self.stats.upstream_cx_overflow += 1
        return False

    def check_connect(self, connections_of_endpoint: int) -> None:
        """Raise Overflow if a client that needs a connection of its own cannot have one."""
        if not self.may_connect(connections_of_endpoint):
            raise Overflow(
                f"cluster {self.name}: {self.limits.max_connections} connections are open (max_connections)"
            )

    def acquire(self) -> bool:
        """Take a permit for one retry in flight; False: the original outcome goes on."""
        if self.stats.upstream_rq_retry_active >= self.limits.max_retries:
            self.stats.upstream_rq_retry_overflow += 1
            return False
        self.stats.upstream_rq_retry_active += 1
        self.stats.upstream_rq_retry += 1
        return True

    def release(self) -> None:
        """Give a retry permit back."""
        self.stats.upstream_rq_retry_active -= 1
