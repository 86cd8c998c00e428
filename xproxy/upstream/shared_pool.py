"""Connections for many requests at a time: which to use, whether to open another, or to wait.

It decides and keeps count; the connector dials (idea: httpcore's connection pool). Where a peer bounds how many
requests it takes at a time on a connection, each of them is a place. Those who wait are given places as they become
free, and leave to open a connection where there may be another.

Rule of this file: what was given counts as taken from then on. Who comes meanwhile does not get it too.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final, TypeAlias

import attrs
import trio

from xproxy.connection.shared.multiplexed import Multiplexed
from xproxy.model.errors import StreamError
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Request
from xproxy.upstream.queue import Queue, Waiter


class Decision(Enum):
    """What a request without a connection does."""

    OPEN = "open"
    WAIT = "wait"


OPEN: Final = Decision.OPEN
WAIT: Final = Decision.WAIT
MayOpen: TypeAlias = Callable[[int, Request], bool]
"""Whether another connection may be opened for a request, beside so many that can be used."""


@attrs.define(eq=False)
class Opening:
    """A connection that is being opened: until it is known how many requests its peer takes, no other one is."""

    over: trio.Event = attrs.field(factory=trio.Event)
    connection: Multiplexed | None = None
    """Once it is there."""


class SharedPool:
    """The connections to one endpoint in one protocol, or the one that is bound to a client's."""

    __slots__ = (
        "_granted",
        "_promised",
        "_queue",
        "_wanted",
        "asks",
        "connections",
        "may_open",
        "only",
        "opening",
        "waiting",
    )

    def __init__(
        self,
        queue: Queue[Multiplexed | None],
        wanted: int,
        may_open: MayOpen,
        asks: MayOpen | None = None,
    ) -> None:
        """``wanted``: so many connections there should be in any case. ``may_open`` is asked for those who wait.

        ``asks``: the same for who comes, where that is to be counted.
        """
        self._queue = queue
        self.waiting = queue.waiting
        """Those who wait, in order."""
        self._wanted = wanted
        self.may_open = may_open
        self.asks = asks or may_open
        self.connections: list[Multiplexed] = []
        """Those there are, also those that take no more requests; see ``add`` and ``remove``."""
        self.only: Multiplexed | None = None
        """The one that a request need not be chosen for: there is no other, and nobody waits. Whether it serves, and
        has room, is yet to be asked."""
        self.opening: Opening | None = None
        self._promised: dict[Multiplexed, int] = {}
        """Places given and not taken yet; in this round of the loop they are."""
        self._granted = 0
        """Times that leave to open a connection was given, likewise."""

    # ---- deciding

    def decide(self, request: Request, may_open: MayOpen) -> Multiplexed | Decision:
        """Return the connection that carries ``request``, or what else to do."""
        usable = [c for c in self.connections if c.serving]
        free = [c for c in usable if self.takes(c) and at_once(c, request)]
        opening = self.opening is not None or self._granted > 0
        if free and (opening or len(usable) >= self._wanted):
            return self._least_busy(free)
        if opening:
            return WAIT
        if may_open(len(usable), request):
            return OPEN
        if free:
            return self._least_busy(free)
        # Others may have used up what their peers take at the moment: it waits on one, for its turn to send.
        return min(filter(self.takes, usable), key=self._load, default=WAIT)

    @property
    def ample(self) -> bool:
        """There are as many connections as there should be in any case, and each has a place."""
        usable = [c for c in self.connections if c.serving]
        return len(usable) >= self._wanted and all(map(self.takes, usable))

    def takes(self, connection: Multiplexed) -> bool:
        """Whether ``connection`` has a place that nobody was given; it may have ended."""
        concurrency = connection.wire.concurrency
        if concurrency is None:
            return True
        if self._promised:
            return concurrency.room > self._promised.get(connection, 0)
        return not concurrency.saturated

    def look(self) -> None:
        """Give those who wait what there is. Never blocks; call it when something may have changed."""
        opening = self.opening
        if opening is not None and opening.connection is not None and _known(opening.connection):
            self.opened(opening)
            return
        queue = self._queue
        while (waiter := queue.first()) is not None:
            decision = self.decide(waiter.request, self.may_open)
            if decision is WAIT:
                # There may be a place for who has nothing to send but the head.
                passing = self._without_body()
                if passing is None:
                    break
                waiter = passing
                decision = self.decide(waiter.request, self.may_open)
            if decision is WAIT:
                break
            if decision is OPEN:
                self._granted += 1
                queue.hand(waiter, None)
            else:
                self._promised[decision] = self._promised.get(decision, 0) + 1
                queue.hand(waiter, decision)
        self._watch()

    def _without_body(self) -> Waiter | None:
        if not any(c.serving and self.takes(c) for c in self.connections):
            return None
        return next((w for w in self.waiting if _bare(w.request)), None)

    def _least_busy(self, free: list[Multiplexed]) -> Multiplexed:
        # The ones that are there in any case first: the others shall fall idle.
        return min(free[: self._wanted], key=self._load if self._promised else _streams)

    def _load(self, connection: Multiplexed) -> int:
        return connection.streams + self._promised.get(connection, 0)

    # ---- waiting

    def waiter(self, request: Request) -> Waiter:
        """Return one whose turn it is from now on, whenever it comes to wait, and that will not be refused."""
        waiter = Waiter(request)
        self._queue.admit(waiter)
        return waiter

    async def wait(self, waiter: Waiter) -> Multiplexed | None:
        """Wait in turn; return a connection that has a place, or None: open one. Cancelling loses neither.

        What is returned is to be used before the next checkpoint. Raises Overflow, and what ``failed`` was told.
        """
        for connection in self.connections:
            connection.wire.on_room = self.look
        self.only = None
        try:
            given = await self._queue.wait(waiter)
        except BaseException:
            self._watch()
            raise
        if given is None:
            self._granted -= 1
        elif left := self._promised.pop(given) - 1:
            self._promised[given] = left
        self._watch()
        return given

    def _watch(self) -> None:
        """Be told of changes as long as somebody wants to know, and no longer."""
        one = self.connections
        taken = self.waiting or self._promised or self._granted
        self.only = one[0] if not taken and self._wanted == 1 and len(one) == 1 else None
        on_room = self.look if taken or self.opening is not None else None
        for connection in one:
            connection.wire.on_room = on_room

    # ---- connections that come and go

    def open(self) -> Opening:
        """A connection is being opened: say ``opened`` or ``failed`` in the end."""
        opening = self.opening = Opening()
        return opening

    def opened(self, opening: Opening) -> None:
        """It is known how many requests its peer takes, or this was waited for long enough. Idempotent."""
        if self.opening is opening:
            self.opening = None
            opening.over.set()
            self.look()

    def failed(self, error: StreamError | None) -> None:
        """It could not be opened; None: whoever opened it was cancelled, or goes elsewhere.

        Where there is no other, all who wait fail too: each on its own would only find the same, one after the other,
        and each after a whole connect_timeout.
        """
        self.opening = None
        if error is not None and not any(c.serving for c in self.connections):
            self._queue.fail(error)
        self.look()

    def add(self, connection: Multiplexed, opening: Opening | None = None) -> None:
        """Use ``connection``, too; it is what ``opening`` led to."""
        self.connections.append(connection)
        if opening is not None:
            opening.connection = connection
            if _known(connection):
                self.opened(opening)
        self._watch()

    def remove(self, connection: Multiplexed) -> None:
        """Use it no more, if it is used; ``look`` when it is counted no more."""
        if connection in self.connections:
            self.connections.remove(connection)
        connection.wire.on_room = None
        self._watch()


def _streams(connection: Multiplexed) -> int:
    return connection.streams


def _known(connection: Multiplexed) -> bool:
    # How many requests it takes; or it does not matter any more.
    concurrency = connection.wire.concurrency
    return concurrency is None or concurrency.settled or not connection.serving


def at_once(connection: Multiplexed, request: Request) -> bool:
    """Whether a request that has a place could go out at once, as far as can be seen."""
    wire = connection.wire
    if wire.outbox.full:
        return False
    return wire.concurrency is None or not wire.concurrency.blocked or _bare(request)


def premature(connection: Multiplexed, request: Request) -> bool:
    """Whether a request must wait for what the peer of a fresh connection says. Raises LocalProtocolError."""
    concurrency = connection.wire.concurrency
    return concurrency is not None and concurrency.premature(request.head)


def _bare(request: Request) -> bool:
    body = request.body
    return type(body) is BytesBody and not body.data
