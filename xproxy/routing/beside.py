"""What a route table does beside its requests: it runs the mirrors of its routes, and counts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, final

import attrs
import trio

from xproxy.observe.metrics import counter, counters, gauge


@attrs.define(eq=False)
class RoutingStats:
    """Counters of one route table."""

    mirror_total: dict[str, int] = counters("route", "Copies of requests that were sent.")
    mirror_active: int = gauge("Copies in flight.")
    mirror_failed: int = counter("Copies that were not answered.")
    mirror_timeout: int = counter("Copies that were not answered in time.")
    mirror_overflow: int = counter("Requests not copied, as max_concurrent copies were in flight.")
    mirror_too_large: int = counter("Requests not copied, as they were above max_body_bytes.")
    fallback_total: dict[str, int] = counters("route", "Requests that fallback_cluster was asked.")


@final
class Beside:
    """Owns the tasks of one table. Runs while a snapshot has the table."""

    __slots__ = ("_nursery", "name", "stats")

    name: Final[str]
    stats: Final[RoutingStats]

    def __init__(self, name: str) -> None:
        self.name = name
        self.stats = RoutingStats()
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """See SupportsRun: what is in flight at the end is given up."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def start_soon(self, work: Callable[[], Awaitable[object]]) -> bool:
        """Run ``work``, which raises nothing; False: nothing is started any more."""
        if self._nursery is None:
            return False
        self._nursery.start_soon(work)
        return True

    def statistics(self) -> tuple[str, str, RoutingStats]:
        """See SupportsStatistics."""
        return "routes", self.name, self.stats
