"""Things that need a running task for as long as the snapshot that holds them lives."""

from __future__ import annotations

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
