"""Many requests at a time on a connection that clients share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Final

import trio

from xproxy.codecs.api import CodecPlugin
from xproxy.connection.flowing import UpstreamEnd
from xproxy.connection.phase import Phase
from xproxy.connection.shared.multiplexed import Multiplexed
from xproxy.connection.standing import Standing
from xproxy.model.errors import ConnectFailed, UpstreamRefused
from xproxy.model.traits import Role
from xproxy.stream.exchange import ConnectionFacts, Downstream, Request, Response
from xproxy.transport.stream import ByteStream
from xproxy.transport.tls.alerts import TlsError
from xproxy.upstream.connector import Continuation, Dialer
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.moving import Given, Handed
from xproxy.upstream.queue import Queue, Waiter
from xproxy.upstream.shared_pool import (
    OPEN,
    WAIT,
    Decision,
    Opening,
    SharedPool,
    at_once,
    premature,
)

_SERVING: Final = Phase.SERVING


class SharedConnector:
    """A few connections an endpoint; requests go to the one with the fewest in flight.

    Where the peer bounds how many requests it takes at a time on a connection, further ones are opened while all are
    full, within the circuit breaker's ``max_connections``. Beyond that requests wait for a place, at most
    ``max_pending_requests`` of them. The same where others have used up what a peer takes in bodies, or a peer reads
    nothing: a request does not wait for strangers if there can be another connection.
    """

    __slots__ = ("_dialer", "_nursery", "_pools", "_used", "plugin")

    def __init__(self, dialer: Dialer, nursery: trio.Nursery) -> None:
        self.plugin: CodecPlugin = dialer.plugin
        self._dialer = dialer
        self._nursery = nursery
        self._pools: dict[Endpoint, SharedPool] = {}
        self._used: dict[
            Endpoint, tuple[int, int]
        ] = {}  # requests so far, and the tick that saw the last one

    def pinned(self, _request: Request) -> Endpoint | None:
        """See Connector."""
        return None

    def exchange(self, request: Request, endpoint: Endpoint) -> Awaitable[Response]:
        """See Connector. The usual case is the call itself: no frame of the connector's stands above it."""
        pool = self._pools.get(endpoint)
        if pool is not None and (connection := pool.only) is not None:
            wire = connection.wire
            outbox = wire.outbox
            if wire.phase is _SERVING and (
                outbox.size < outbox.limit
                if wire.concurrency is None
                else not wire.concurrency.saturated and at_once(connection, request)
            ):
                return connection.call(request)
        pool = pool or self._pool(endpoint)
        if pool.waiting:
            pool.look()  # connections to another endpoint may have closed: those who wait are first
        found = pool.decide(request, pool.asks)
        if isinstance(found, Multiplexed) and at_once(found, request):
            return found.call(request)
        return self._exchange(request, endpoint, pool, found)

    async def _exchange(
        self,
        request: Request,
        endpoint: Endpoint,
        pool: SharedPool,
        found: Multiplexed | Decision,
    ) -> Response:
        connection = await self._choose(request, endpoint, pool, found)
        try:
            return await connection.call(request)
        except BaseException:
            pool.look()  # its place is another's, if it could not be sent
            raise

    async def _choose(
        self,
        request: Request,
        endpoint: Endpoint,
        pool: SharedPool,
        found: Multiplexed | Decision,
    ) -> Multiplexed:
        """Return a connection that takes ``request`` now, before anything else runs."""
        breaker = self._dialer.breaker
        waiter: Waiter | None = None
        opened = False
        while True:
            if found is OPEN:
                if opened:
                    # Each time it would be the same, and whoever opens one without sending anything has no end.
                    pool.look()
                    raise UpstreamRefused(
                        f"{endpoint.address} went away before it said what it takes", leaving=True
                    )
                waiter = waiter or pool.waiter(request)
                connection = await self._open(request, endpoint, pool)
                if not premature(connection, request):
                    return connection
                opened, found = True, WAIT
            if found is WAIT:
                waiter = waiter or Waiter(request)
                given = await pool.wait(waiter)
                if given is None:
                    found = OPEN
                    continue
                usable = given.serving and pool.takes(given)
                found = given if usable else pool.decide(request, pool.may_open)
            if isinstance(found, Multiplexed):
                if waiter is None and not at_once(found, request):
                    breaker.of(request).check_pending(request)
                if not found.wire.outbox.full:
                    return found
                try:
                    await found.wire.outbox.room()
                except BaseException:
                    pool.look()  # likewise
                    raise
                found = pool.decide(request, pool.may_open)

    async def _open(self, request: Request, endpoint: Endpoint, pool: SharedPool) -> Multiplexed:
        dialer = self._dialer
        opening = pool.open()
        try:
            stream, codec = await dialer.open(endpoint, request)
        except BaseException as error:
            pool.failed(error if isinstance(error, ConnectFailed) else None)
            raise
        facts = upstream_facts(dialer, endpoint)
        connection = Multiplexed(stream, codec, Role.CLIENT, facts, None, dialer.timers)
        self._nursery.start_soon(self._run, connection, endpoint, pool)
        pool.add(connection, opening)
        if pool.opening is opening:
            # Those who wait would else all go there before it is known how many it takes.
            self._nursery.start_soon(self._settle, opening, pool)
        return connection

    async def _settle(self, opening: Opening, pool: SharedPool) -> None:
        with trio.move_on_after(self._dialer.config.connect_timeout):
            await opening.over.wait()
        pool.opened(opening)

    async def _run(self, connection: Multiplexed, endpoint: Endpoint, pool: SharedPool) -> None:
        try:
            await connection.run(heartbeat=self._dialer.heartbeat)
        finally:
            pool.remove(connection)
            self._dialer.closed(endpoint)
            pool.look()

    def _pool(self, endpoint: Endpoint) -> SharedPool:
        pool = self._pools.get(endpoint)
        if pool is None:
            dialer = self._dialer
            wanted = dialer.config.connections_per_endpoint
            queue = Queue[Multiplexed | None](dialer.breaker)
            pool = self._pools[endpoint] = SharedPool(
                queue,
                wanted,
                partial(_may, dialer.breaker.can_connect, endpoint),
                partial(_may, dialer.breaker.may_connect, endpoint),
            )
        return pool

    def tick(self, tick: int, idle_ticks: int) -> bool:
        """See Connector: an endpoint's connections are closed together, once it has had no request for so long."""
        for endpoint, pool in self._pools.items():
            connections = pool.connections
            total, since = self._used.get(endpoint, (-1, tick))
            if total != endpoint.total or endpoint.active:
                self._used[endpoint] = (endpoint.total, tick)
            elif idle_ticks and tick - since > idle_ticks:
                self._leave(connections)
            if idle_ticks and len(connections) > self._dialer.config.connections_per_endpoint:
                # Those that were opened for a rush go one by one.
                heard = trio.current_time() - idle_ticks
                surplus = connections[self._dialer.config.connections_per_endpoint :]
                self._leave([c for c in surplus if not c.streams and c.wire.read_at < heard])
        return self._dialer.connections > 0

    def _leave(self, connections: list[Multiplexed]) -> None:
        for connection in connections:
            if connection.serving:
                self._dialer.stats.upstream_cx_idle_timeout += 1
                connection.drain()

    def leave(self, endpoint: Endpoint) -> None:
        """See Connector."""
        pool = self._pools.get(endpoint)
        if pool is not None:
            for connection in pool.connections:
                connection.drain()

    def forget(self, endpoint: Endpoint) -> None:
        """See Connector."""
        self._pools.pop(endpoint, None)
        self._used.pop(endpoint, None)

    def close(self) -> None:
        """See Connector."""
        for pool in self._pools.values():
            for connection in pool.connections:
                connection.drain()

    # ---- moving to another process

    def give(self) -> Iterator[Given]:
        """See Connector."""
        for endpoint, pool in list(self._pools.items()):
            for connection in list(pool.connections):
                # By now it may be in use, or gone.
                if connection in pool.connections and connection.standing is Standing.IDLE:
                    given = self._given(connection, endpoint, pool)
                    if given is not None:
                        pool.remove(connection)
                        yield given

    def _given(self, connection: Multiplexed, endpoint: Endpoint, pool: SharedPool) -> Given | None:
        try:
            moment = connection.freeze()
        except (ValueError, TlsError):
            return None  # it is used here until it ends

        def stay() -> None:
            connection.thaw()
            if connection.serving:  # else it has ended meanwhile, and whoever ran it has gone
                pool.add(connection)
                pool.look()

        def leave() -> None:
            pool.add(connection)  # whoever ran it takes it out
            connection.leave()

        handed = Handed(protocol=self.plugin.name, moment=moment)
        return Given(endpoint=endpoint, handed=handed, stay=stay, leave=leave)

    def adopt(
        self,
        endpoint: Endpoint,
        stream: ByteStream,
        handed: Handed,
        downstream: Downstream | None = None,
    ) -> None:
        """See Connector."""
        dialer = self._dialer
        codec = dialer.adopt(endpoint, handed.moment)
        facts = upstream_facts(dialer, endpoint)
        connection = Multiplexed(
            stream, codec, Role.CLIENT, facts, None, dialer.timers, moment=handed.moment
        )
        pool = self._pool(endpoint)
        # With each takeover there would else be one more: meanwhile we have dialled what we need.
        needless = pool.ample
        pool.add(connection)
        self._nursery.start_soon(self._run, connection, endpoint, pool)
        if needless:
            connection.drain()
        pool.look()

    def continuation(self, endpoint: Endpoint, end: UpstreamEnd) -> Continuation:
        """See Connector: amid an exchange they stay."""
        raise ValueError("a connection with many requests at a time stays while it has any")


def upstream_facts(dialer: Dialer, endpoint: Endpoint) -> ConnectionFacts:
    """Return the facts of a connection to ``endpoint``, for requests that come from there."""
    return ConnectionFacts(
        id=0,
        listener=f"cluster {dialer.name}",
        protocol=dialer.plugin.name,
        traits=dialer.plugin.traits,
        share=dialer.poller.held.share(None),
        peer=endpoint.address,
        local=endpoint.address,
    )


def _may(
    ask: Callable[[int, int, Endpoint, Request], bool],
    endpoint: Endpoint,
    usable: int,
    request: Request,
) -> bool:
    return ask(usable, 0, endpoint, request)
