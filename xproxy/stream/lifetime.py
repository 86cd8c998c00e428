"""Things that need a running task for as long as the snapshot that holds them lives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import trio


@runtime_checkable
class SupportsRun(Protocol):
    """A filter (or another part of a snapshot) with a task of its own: a log writer, a cache refresh."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled; ``task_status.started()`` says that it is ready for requests.

        Whoever owns the snapshot starts it before the first request (``await nursery.start(thing.run)``) and cancels
        it after the last stream of the snapshot has ended. What it raises before ``started()`` refuses the snapshot.
        """
        ...


@runtime_checkable
class SupportsStatistics(Protocol):
    """A part of a snapshot with counters, for the admin interface to show while a snapshot has it."""

    def statistics(self) -> tuple[str, str, object] | None:
        """Return their kind, their name, and an instance of an attrs class with them; None: there are none."""
        ...


class Members(Protocol):
    """A cluster, as far as it matters who of it is healthy."""

    def members(self) -> tuple[int, int]:
        """Return how many endpoints it has, and how many of them are healthy or degraded."""
        ...


@runtime_checkable
class SupportsClusters(Protocol):
    """A filter that looks at the health of clusters."""

    def see_clusters(self, clusters: Mapping[str, Members]) -> None:
        """Look at these from now on, by name. Called each time that a snapshot which has it comes into force."""
        ...


@runtime_checkable
class SupportsProbe(Protocol):
    """A filter that needs something of the machine it runs on: a file, a device."""

    def probe(self) -> tuple[str, str] | None:
        """Say what it cannot have, and which of its keys asks for it; None: it can start. Changes nothing."""
        ...
