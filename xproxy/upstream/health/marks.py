"""Changing what is said of an endpoint's health: whoever chooses learns of it, and the cluster's numbers agree."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import final

from xproxy.upstream.endpoint import Degraded, Endpoint, Unfit
from xproxy.upstream.stats import ClusterStats


@final
class Marks:
    """Of one cluster."""

    __slots__ = ("_marked", "_stats", "lost")

    def __init__(self, stats: ClusterStats, marked: Callable[[], None]) -> None:
        """``marked`` is called after each change."""
        self._stats = stats
        self._marked = marked
        self.lost: Callable[[Endpoint], None] | None = None
        """Is told of each endpoint that is unfit for a reason that it was not for before."""

    def change(
        self,
        endpoint: Endpoint,
        *,
        unfit: Unfit | None = None,
        degraded: Degraded | None = None,
        on: bool,
    ) -> bool:
        """Set these bits, or clear them. Return whether that changed anything."""
        before = endpoint.unfit, endpoint.degraded
        if unfit is not None:
            endpoint.unfit = endpoint.unfit | unfit if on else endpoint.unfit & ~unfit
        if degraded is not None:
            endpoint.degraded = (
                endpoint.degraded | degraded if on else endpoint.degraded & ~degraded
            )
        if before == (endpoint.unfit, endpoint.degraded):
            return False
        if not endpoint.leaving:
            self._count(*before, -1)
            self._count(endpoint.unfit, endpoint.degraded, 1)
        self._marked()
        if endpoint.unfit & ~before[0] and self.lost is not None:
            self.lost(endpoint)
        return True

    def add(self, endpoint: Endpoint) -> None:
        """The cluster has this one, too, from now on."""
        self._stats.membership_total += 1
        self._count(endpoint.unfit, endpoint.degraded, 1)

    def recount(self, endpoints: Iterable[Endpoint]) -> None:
        """The cluster has these now."""
        stats = self._stats
        stats.membership_total = stats.membership_healthy = 0
        stats.membership_degraded = stats.membership_excluded = 0
        for endpoint in endpoints:
            stats.membership_total += 1
            self._count(endpoint.unfit, endpoint.degraded, 1)

    def _count(self, unfit: int, degraded: int, change: int) -> None:
        stats = self._stats
        if unfit & Unfit.UNCHECKED:
            stats.membership_excluded += change
        elif unfit:
            pass
        elif degraded:
            stats.membership_degraded += change
        else:
            stats.membership_healthy += change
