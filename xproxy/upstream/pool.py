"""Connections for one request at a time: which to use, whether to open one, to wait, or to refuse.

It decides and keeps count; the lane dials and closes (idea: httpcore's connection pool).
"""

from __future__ import annotations

from collections import deque

import attrs
import trio
from outcome import Value

from xproxy.connection.serial.upstream import SerialUpstream


@attrs.define(eq=False)
class Waiter:
    """A request that waits for a connection, or for leave to open one."""

    task: trio.lowlevel.Task | None = None
    given: SerialUpstream | None = None
    done: bool = False


@attrs.define(eq=False)
class SerialPool:
    """The connections to one endpoint in one protocol."""

    idle: list[SerialUpstream] = attrs.field(factory=list)
    """Last in, first out: the busiest connections stay warm and the others reach their idle timeout."""
    oneways: list[SerialUpstream] = attrs.field(factory=list)
    """Connections that carried a one-way message, and carry nothing else any more: an answer behind it would wait
    until the endpoint is done with it, and it may be answered although nobody asked for that."""
    waiting: deque[Waiter] = attrs.field(factory=deque)
    open: int = 0
    """Connections there are, idle, leased and being opened; written by the lane."""

    def take(self) -> SerialUpstream | None:
        """Return a connection that can be used at once, or None. Those that cannot be are left in ``idle``."""
        idle = self.idle
        if not idle:
            return None
        connection = idle.pop()
        if connection.reusable:
            return connection
        idle.append(connection)
        for index in range(len(idle) - 2, -1, -1):
            if idle[index].reusable:
                return idle.pop(index)
        return None

    def offer(self, connection: SerialUpstream) -> None:
        """A connection has become free: hand it to who waits longest, else keep it."""
        waiter = self._next_waiter() if self.waiting else None
        if waiter is None:
            self.idle.append(connection)
        else:
            waiter.given = connection
            self._wake(waiter)

    def slot_free(self) -> None:
        """A connection has gone: who waits longest may open one."""
        waiter = self._next_waiter()
        if waiter is not None:
            self._wake(waiter)

    def _next_waiter(self) -> Waiter | None:
        while self.waiting:
            waiter = self.waiting.popleft()
            if not waiter.done:
                return waiter
        return None

    def _wake(self, waiter: Waiter) -> None:
        waiter.done = True
        if waiter.task is not None:
            task, waiter.task = waiter.task, None
            trio.lowlevel.reschedule(task, Value(None))

    async def wait(self) -> SerialUpstream | None:
        """Wait in turn; return a connection, or None: open one. Cancelling loses no connection."""
        waiter = Waiter()
        self.waiting.append(waiter)

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            waiter.task = None
            waiter.done = True
            return trio.lowlevel.Abort.SUCCEEDED

        waiter.task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)
        return waiter.given

    def expire(self, tick: int, idle_ticks: int) -> list[SerialUpstream]:
        """Remove and return what the endpoint has closed, or nobody used for ``idle_ticks``. Closes none of them."""
        gone: list[SerialUpstream] = []
        for connections in (self.idle, self.oneways):
            kept: list[SerialUpstream] = []
            for connection in connections:
                expired = idle_ticks and tick - connection.idle_since > idle_ticks
                (gone if expired or not connection.quiet() else kept).append(connection)
            connections[:] = kept
        return gone
