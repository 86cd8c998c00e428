"""Many requests at a time on a connection: shared among clients, or bound to one client's connection."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from typing import Final

import attrs
import trio

from xproxy.codecs.api import CodecPlugin
from xproxy.connection.phase import Phase
from xproxy.connection.service import DownstreamStats, Port, Service, Timeouts
from xproxy.connection.shared.multiplexed import Multiplexed
from xproxy.connection.standing import Standing
from xproxy.model.errors import ConnectFailed, Unsupported
from xproxy.model.traits import Role
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import ConnectionFacts, Downstream, Request, Response
from xproxy.transport.stream import ByteStream
from xproxy.transport.tls.alerts import TlsError
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.lane import Dialer
from xproxy.upstream.moving import Given, Handed

_SERVING: Final = Phase.SERVING


@attrs.define(eq=False)
class _Opening:
    """A connection that is being opened for one request, and that others wait for."""

    endpoint: Endpoint
    done: trio.Event = attrs.field(factory=trio.Event)
    error: ConnectFailed | None = None

    async def wait(self, endpoint: Endpoint) -> None:
        """Return when there is something to look at. Raises ConnectFailed if ``endpoint`` has just been tried.

        Each on its own would only find the same, one after the other, and each after a whole connect_timeout.
        """
        await self.done.wait()
        if self.error is not None and self.endpoint is endpoint:
            raise ConnectFailed(self.error.detail)


class SharedLane:
    """A few connections an endpoint; requests go to the one with the fewest in flight.

    Where the peer bounds how many requests it takes at a time on a connection, further ones are opened while all are
    full, within the circuit breaker's ``max_connections``. Beyond that requests wait on a connection, at most
    ``max_pending_requests`` of them. The same where others have used up what a peer takes in bodies, or a peer reads
    nothing: a request does not wait for strangers if there can be another connection.
    """

    __slots__ = ("_connections", "_dialer", "_nursery", "_opening", "_used", "plugin")

    def __init__(self, dialer: Dialer, nursery: trio.Nursery) -> None:
        self.plugin: CodecPlugin = dialer.plugin
        self._dialer = dialer
        self._nursery = nursery
        self._connections: dict[Endpoint, list[Multiplexed]] = {}
        self._opening: dict[Endpoint, _Opening] = {}
        self._used: dict[
            Endpoint, tuple[int, int]
        ] = {}  # requests so far, and the tick that saw the last one

    def pinned(self, _request: Request) -> Endpoint | None:
        """See Lane."""
        return None

    def exchange(self, request: Request, endpoint: Endpoint) -> Awaitable[Response]:
        """See Lane. The usual case is the call itself: no frame of the lane's stands above it."""
        connections = self._connections.get(endpoint)
        if (
            connections is not None
            and len(connections) == 1
            and self._dialer.config.connections_per_endpoint == 1
        ):
            connection = connections[0]
            wire = connection.wire
            outbox = wire.outbox
            if wire.phase is _SERVING and (
                outbox.size < outbox.limit
                if wire.concurrency is None
                else _has_room(connection, request)
            ):
                return connection.call(request)
        return self._exchange(request, endpoint)

    async def _exchange(self, request: Request, endpoint: Endpoint) -> Response:
        return await (await self._choose(request, endpoint)).call(request)

    async def _choose(self, request: Request, endpoint: Endpoint) -> Multiplexed:
        dialer = self._dialer
        wanted = dialer.config.connections_per_endpoint
        while True:
            connections = self._connections.setdefault(endpoint, [])
            usable = [c for c in connections if c.serving]
            free = [c for c in usable if _has_room(c, request)]
            opening = self._opening.get(endpoint)
            if free and (len(usable) >= wanted or opening is not None):
                return _least_busy(free, wanted)
            if opening is None:
                if dialer.breaker.may_connect(len(usable)):
                    return await self._open(request, endpoint)
                if free:
                    return _least_busy(free, wanted)
                # All are full, and there may be no more: the request waits on one of them.
                dialer.breaker.check_pending(request, _waiting(usable))
                return min(usable, key=lambda c: c.streams)
            # One dials; the others wait for it, and look again unless it failed.
            dialer.breaker.check_pending(request, _waiting(usable))
            dialer.stats.upstream_rq_pending_active += 1
            try:
                await opening.wait(endpoint)
            finally:
                dialer.stats.upstream_rq_pending_active -= 1

    async def _open(self, request: Request, endpoint: Endpoint) -> Multiplexed:
        dialer = self._dialer
        opening = self._opening[endpoint] = _Opening(endpoint)
        try:
            stream, codec = await dialer.open(endpoint, request)
        except BaseException as error:
            opening.error = error if isinstance(error, ConnectFailed) else None
            self._opened(opening)
            raise
        facts = upstream_facts(dialer, endpoint)
        connection = Multiplexed(stream, codec, Role.CLIENT, facts, None, dialer.timers)
        self._connections[endpoint].append(connection)
        self._nursery.start_soon(self._run, connection, endpoint)
        if connection.wire.concurrency is None:
            self._opened(opening)
        else:
            # Those who wait would else all go there before it is known how many it takes.
            self._nursery.start_soon(self._settle, connection, opening)
        return connection

    async def _settle(self, connection: Multiplexed, opening: _Opening) -> None:
        try:
            await connection.settled(self._dialer.config.connect_timeout)
        finally:
            self._opened(opening)

    def _opened(self, opening: _Opening) -> None:
        del self._opening[opening.endpoint]
        opening.done.set()

    async def _run(self, connection: Multiplexed, endpoint: Endpoint) -> None:
        try:
            await connection.run(heartbeat=self._dialer.heartbeat)
        finally:
            self._connections[endpoint].remove(connection)
            self._dialer.closed(endpoint)

    def tick(self, tick: int, idle_ticks: int) -> bool:
        """See Lane: an endpoint's connections are closed together, once it has had no request for so long."""
        for endpoint, connections in self._connections.items():
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
        """See Lane."""
        for connection in self._connections.get(endpoint, ()):
            connection.drain()

    def forget(self, endpoint: Endpoint) -> None:
        """See Lane."""
        self._connections.pop(endpoint, None)
        self._used.pop(endpoint, None)

    def close(self) -> None:
        """See Lane."""
        for connections in self._connections.values():
            for connection in connections:
                connection.drain()

    # ---- moving to another process

    def give(self) -> Iterator[Given]:
        """See Lane."""
        for endpoint, connections in list(self._connections.items()):
            for connection in list(connections):
                # By now it may be in use, or gone.
                if connection in connections and connection.standing is Standing.IDLE:
                    given = self._given(connection, endpoint, connections)
                    if given is not None:
                        connections.remove(connection)
                        yield given

    def _given(
        self, connection: Multiplexed, endpoint: Endpoint, connections: list[Multiplexed]
    ) -> Given | None:
        try:
            moment = connection.freeze()
        except (ValueError, TlsError):
            return None  # it is used here until it ends

        def stay() -> None:
            connection.thaw()
            connections.append(connection)

        def leave() -> None:
            connections.append(connection)  # whoever ran it takes it out
            connection.leave()

        handed = Handed(protocol=self.plugin.name, moment=moment)
        return Given(endpoint=endpoint, handed=handed, stay=stay, leave=leave)

    def adopt(self, endpoint: Endpoint, stream: ByteStream, handed: Handed) -> None:
        """See Lane."""
        dialer = self._dialer
        codec = dialer.adopt(endpoint, handed.moment)
        facts = upstream_facts(dialer, endpoint)
        connection = Multiplexed(
            stream, codec, Role.CLIENT, facts, None, dialer.timers, moment=handed.moment
        )
        self._connections.setdefault(endpoint, []).append(connection)
        self._nursery.start_soon(self._run, connection, endpoint)


def _has_room(connection: Multiplexed, request: Request) -> bool:
    """Whether a request could go out at once, as far as can be seen."""
    if connection.wire.outbox.full:
        return False
    concurrency = connection.wire.concurrency
    if concurrency is None:
        return True
    if concurrency.saturated:
        return False
    body = request.body
    return not concurrency.blocked or (type(body) is BytesBody and not body.data)


def _least_busy(free: list[Multiplexed], wanted: int) -> Multiplexed:
    # The ones that are there in any case first: the others shall fall idle.
    return min(free[:wanted], key=lambda c: c.streams)


def _waiting(connections: list[Multiplexed]) -> int:
    return sum(c.wire.concurrency.waiting for c in connections if c.wire.concurrency is not None)


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


@attrs.frozen
class _BoundTimeouts:
    """Reverse requests take as long as the client lets them; everything else is the downstream's to bound."""

    detect: float = 0
    idle: float = 0
    head: float = 0
    body: float = 60.0
    write: float = 60.0
    stream_idle: float = 300.0
    linger: float = 1.0


_TIMEOUTS: Timeouts = _BoundTimeouts()


class BoundLane:
    """Each client's connection has its own upstream connection, over which the server may call the client."""

    __slots__ = ("_bound_ones", "_dialer", "_nursery", "_opening", "plugin")

    def __init__(self, dialer: Dialer, nursery: trio.Nursery) -> None:
        self.plugin: CodecPlugin = dialer.plugin
        self._dialer = dialer
        self._nursery = nursery
        self._opening: dict[int, _Opening] = {}
        self._bound_ones: set[_BoundConnection] = set()

    def pinned(self, request: Request) -> Endpoint | None:
        """See Lane."""
        bound = self._bound(request)
        return bound.endpoint if bound is not None else None

    def _bound(self, request: Request) -> _BoundConnection | None:
        downstream = request.connection.downstream
        bound = downstream.bound(self) if downstream is not None else None
        if isinstance(bound, _BoundConnection) and bound.connection.serving:
            return bound
        return None

    async def exchange(self, request: Request, endpoint: Endpoint) -> Response:
        """See Lane."""
        client = request.connection.id
        while True:
            bound = self._bound(request)
            if bound is not None:
                return await bound.connection.call(request)
            opening = self._opening.get(client)
            if opening is None:
                break
            await opening.wait(endpoint)
        opening = self._opening[client] = _Opening(endpoint)
        try:
            connection = await self._open(request, endpoint)
        except ConnectFailed as error:
            opening.error = error
            raise
        finally:
            del self._opening[client]
            opening.done.set()
        return await connection.call(request)

    async def _open(self, request: Request, endpoint: Endpoint) -> Multiplexed:
        dialer = self._dialer
        downstream = request.connection.downstream
        if downstream is None:
            raise Unsupported("the request has no connection that another one can be bound to")
        dialer.breaker.check_connect(endpoint.connections)
        stream, codec = await dialer.open(endpoint, request)
        limits = dialer.limits
        service = Service(
            Reverse(downstream), _TIMEOUTS, 1 << 20, limits.max_streams, limits.max_message_bytes
        )
        port = Port(f"cluster {dialer.name}", service, DownstreamStats())
        connection = Multiplexed(
            stream, codec, Role.CLIENT, upstream_facts(dialer, endpoint), port, dialer.timers
        )
        bound = _BoundConnection(connection, endpoint)
        downstream.bind(self, bound)
        self._nursery.start_soon(self._run, bound, downstream)
        return connection

    async def _run(self, bound: _BoundConnection, downstream: Downstream) -> None:
        self._bound_ones.add(bound)
        try:
            await bound.connection.run(heartbeat=self._dialer.heartbeat)
        finally:
            self._bound_ones.discard(bound)
            # One that was told to go away may have a successor by now.
            if downstream.bound(self) is bound:
                downstream.unbind(self)
            self._dialer.closed(bound.endpoint)

    def tick(self, tick: int, idle_ticks: int) -> bool:
        """See Lane: bound connections live and die with their clients."""
        return False

    def leave(self, endpoint: Endpoint) -> None:
        """See Lane: a client goes elsewhere with its next request."""
        for bound in [one for one in self._bound_ones if one.endpoint is endpoint]:
            bound.connection.drain()

    def forget(self, endpoint: Endpoint) -> None:
        """See Lane: connections are kept by their clients."""

    def close(self) -> None:
        """See Lane: bound connections live and die with their clients."""

    def give(self) -> Iterator[Given]:
        """See Lane: they move with their clients."""
        return iter(())

    def adopt(self, endpoint: Endpoint, stream: ByteStream, handed: Handed) -> None:
        """See Lane: they move with their clients."""
        raise ValueError("a connection that is bound to a client moves with it")


@attrs.frozen(eq=False)
class Reverse:
    """Hands a server's request to the client whose connection it came for."""

    downstream: Downstream

    async def __call__(self, request: Request) -> Response:
        """See Handler."""
        return await self.downstream.call(request)


@attrs.frozen(eq=False)
class _BoundConnection:
    connection: Multiplexed
    endpoint: Endpoint

    def close_soon(self) -> None:
        self.connection.close_soon()
