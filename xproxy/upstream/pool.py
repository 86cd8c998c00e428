"""Connections for one request at a time: which to use, whether to open one, to wait, or to refuse.

It decides and keeps count; the connector dials and closes (idea: httpcore's connection pool).
"""

from __future__ import annotations

import attrs

from xproxy.connection.serial.upstream import SerialUpstream
from xproxy.upstream.queue import Queue, Waiter


@attrs.define(eq=False)
class SerialPool:
    """The connections to one endpoint in one protocol."""

    queue: Queue[SerialUpstream | None]
    """What is handed is a connection, or leave to open one (None)."""
    idle: list[SerialUpstream] = attrs.field(factory=list)
    """Last in, first out: the busiest connections stay warm and the others reach their idle timeout."""
    oneways: list[SerialUpstream] = attrs.field(factory=list)
    """Connections that carried a one-way message, and carry nothing else any more: an answer behind it would wait
    until the endpoint is done with it, and it may be answered although nobody asked for that."""
    open: int = 0
    """Connections there are, idle, leased and being opened; written by the connector."""
    granted: int = 0
    """Times that leave to open one was given and not taken yet: in this round of the loop it is."""
    waiting: list[Waiter] = attrs.field(init=False)
    """Those in the queue."""

    def __attrs_post_init__(self) -> None:
        self.waiting = self.queue.waiting

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
        """A connection has become free: hand it to whose turn it is, else keep it."""
        waiter = self.queue.first() if self.waiting else None
        if waiter is None:
            self.idle.append(connection)
        else:
            self.queue.hand(waiter, connection)

    def slot_free(self) -> None:
        """Another connection may be opened: by whose turn it is."""
        waiter = self.queue.first() if self.waiting else None
        if waiter is not None:
            self.granted += 1
            self.queue.hand(waiter, None)

    async def wait(self, waiter: Waiter) -> SerialUpstream | None:
        """Wait in turn; return a connection, or None: open one, at once. Cancelling loses neither.

        Raises Overflow.
        """
        connection = await self.queue.wait(waiter)
        if connection is None:
            self.granted -= 1
        return connection

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
