"""One request at a time on a connection: leased from a pool, or bound to the client's connection."""

from __future__ import annotations

import bisect
from collections.abc import Hashable, Iterator

import attrs

from xproxy.codecs.api import CodecPlugin, SupportsPools
from xproxy.connection.flowing import LEASE, UpstreamEnd
from xproxy.connection.serial.upstream import SerialUpstream
from xproxy.model.errors import UpstreamReset
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Downstream, Releasable, Request, Response
from xproxy.stream.links import Note, Plain, Stays
from xproxy.transport.stream import ByteStream
from xproxy.transport.tls.alerts import TlsError
from xproxy.upstream.connector import Continuation, Dialer
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.moving import Given, Handed
from xproxy.upstream.pool import SerialPool
from xproxy.upstream.queue import Queue, Waiter


class SerialConnector:
    """Pools connections by endpoint, and by what the codec says sets them apart."""

    __slots__ = ("_dialer", "_of_kind", "_over", "_plain", "_pool_of", "_ticker", "plugin")

    def __init__(self, dialer: Dialer) -> None:
        self.plugin: CodecPlugin = dialer.plugin
        self._dialer = dialer
        self._plain: dict[Endpoint, SerialPool] = {}
        plugin = dialer.plugin
        self._pool_of = plugin.pool_of if isinstance(plugin, SupportsPools) else None
        self._of_kind: dict[Hashable, dict[Endpoint, SerialPool]] = {}
        self._ticker = dialer.ticker
        self._over = False

    def pinned(self, _request: Request) -> Endpoint | None:
        """See Connector."""
        return None

    async def exchange(self, request: Request, endpoint: Endpoint) -> Response:
        """See Connector."""
        pools = self._plain
        if self._pool_of is not None:
            pools = self._of_kind.setdefault(self._pool_of(request.head), {})
        pool = pools.get(endpoint)
        if pool is None:
            pool = pools[endpoint] = self._pool()
        connection = pool.take() if not request.head.oneway else self._oneway(endpoint, pool)
        if connection is None:
            connection = await self._connect(request, endpoint, pool)
        while True:
            try:
                response = await connection.exchange(request)
            except UpstreamReset:
                self.drop(connection, endpoint, pool)
                if _may_resend(connection, request):
                    self._dialer.stats.upstream_rq_resent += 1
                    connection = await self._open(request, endpoint, pool)
                    continue
                raise
            except BaseException:
                self.drop(connection, endpoint, pool)
                raise
            if response.lease is None:
                self.settle(connection, endpoint, pool)
            else:
                response.lease = Lease(self, connection, endpoint, pool)
            return response

    def _oneway(self, endpoint: Endpoint, pool: SerialPool) -> SerialUpstream | None:
        # Whoever waits for nothing may go behind others who do.
        while pool.oneways:
            connection = pool.oneways.pop()
            if connection.quiet():
                return connection
            self.drop(connection, endpoint, pool)
        return pool.take()

    def settle(self, connection: SerialUpstream, endpoint: Endpoint, pool: SerialPool) -> None:
        """The exchange is over: keep the connection if it can serve another one."""
        bound = self._dialer.config.max_requests_per_connection
        if not connection.reusable or (bound and connection.requests >= bound):
            self.drop(connection, endpoint, pool)
            return
        if endpoint.leaving and not pool.waiting:
            self.drop(connection, endpoint, pool)
            return
        connection.idle_since = self._ticker.tick
        if not connection.oneway:
            pool.offer(connection)
        elif pool.waiting:
            self.drop(
                connection, endpoint, pool
            )  # its place is wanted for one that may be answered
        else:
            pool.oneways.append(connection)

    def drop(self, connection: SerialUpstream, endpoint: Endpoint, pool: SerialPool) -> None:
        """Close a connection for good."""
        if connection.oneway:
            connection.quiet()  # unread bytes would make the kernel reset it, and the message might be lost
        connection.close()
        self._closed(endpoint, pool)

    def _closed(self, endpoint: Endpoint, pool: SerialPool) -> None:
        self._dialer.closed(endpoint)
        pool.open -= 1
        pool.slot_free()

    async def _connect(
        self, request: Request, endpoint: Endpoint, pool: SerialPool
    ) -> SerialUpstream:
        breaker = self._dialer.breaker
        while pool.idle:  # those that cannot be used any more make room first
            self.drop(pool.idle.pop(), endpoint, pool)
        if pool.oneways and not breaker.may_connect(pool.open, pool.granted, endpoint, request):
            self.drop(pool.oneways.pop(), endpoint, pool)
        while pool.waiting and breaker.can_connect(
            pool.open, pool.granted, endpoint, pool.waiting[0].request
        ):
            pool.slot_free()  # connections to another endpoint have closed
        if not breaker.may_connect(pool.open, pool.granted, endpoint, request):
            connection = await pool.wait(Waiter(request))
            if connection is not None:
                return connection
        return await self._open(request, endpoint, pool)

    async def _open(self, request: Request, endpoint: Endpoint, pool: SerialPool) -> SerialUpstream:
        pool.open += 1
        try:
            stream, codec = await self._dialer.open(endpoint, request)
        except BaseException:
            pool.open -= 1
            pool.slot_free()
            raise
        return SerialUpstream(stream, codec, self.plugin.traits, endpoint.address)

    def _pool(self) -> SerialPool:
        return SerialPool(Queue(self._dialer.breaker))

    def _pools(self) -> list[tuple[Endpoint, SerialPool]]:
        every = (self._plain, *self._of_kind.values())
        return [item for pools in every for item in pools.items()]

    def tick(self, tick: int, idle_ticks: int) -> bool:
        """See Connector."""
        for endpoint, pool in self._pools():
            for connection in pool.expire(tick, idle_ticks):
                if connection.reusable:
                    self._dialer.stats.upstream_cx_idle_timeout += 1
                else:
                    self._dialer.stats.upstream_cx_destroy_remote += 1
                self.drop(connection, endpoint, pool)
        return self._dialer.connections > 0

    def leave(self, endpoint: Endpoint) -> None:
        """See Connector."""
        for pools in (self._plain, *self._of_kind.values()):
            if endpoint in pools:
                self._close_idle(endpoint, pools[endpoint])

    def forget(self, endpoint: Endpoint) -> None:
        """See Connector."""
        for pools in (self._plain, *self._of_kind.values()):
            pools.pop(endpoint, None)

    def _close_idle(self, endpoint: Endpoint, pool: SerialPool) -> None:
        for connections in (pool.idle, pool.oneways):
            while connections:
                self.drop(connections.pop(), endpoint, pool)

    def close(self) -> None:
        """See Connector."""
        self._over = True
        for endpoint, pool in self._pools():
            self._close_idle(endpoint, pool)

    # ---- moving to another process

    def give(self) -> Iterator[Given]:
        """See Connector."""
        for kind, pools in ((None, self._plain), *list(self._of_kind.items())):
            for endpoint, pool in list(pools.items()):
                for connection in list(pool.idle):
                    # By now it may be in use, or gone.
                    if connection in pool.idle and connection.reusable:
                        given = self._given(connection, endpoint, pool, kind)
                        if given is not None:
                            pool.idle.remove(connection)
                            yield given

    def _given(
        self, connection: SerialUpstream, endpoint: Endpoint, pool: SerialPool, kind: Hashable
    ) -> Given | None:
        try:
            moment = connection.freeze()
        except (ValueError, TlsError):
            return None  # it is used here until it ends

        idle = self._ticker.tick - connection.idle_since

        def stay() -> None:
            if self._over:
                self.drop(connection, endpoint, pool)
                return
            connection.thaw()
            self._settle_idle(connection, endpoint, pool, idle)

        def leave() -> None:
            connection.leave()
            self._closed(endpoint, pool)

        handed = Handed(
            protocol=self.plugin.name,
            moment=moment,
            kind=kind,
            requests=connection.requests,
            idle=idle,
        )
        return Given(endpoint=endpoint, handed=handed, stay=stay, leave=leave)

    def adopt(
        self,
        endpoint: Endpoint,
        stream: ByteStream,
        handed: Handed,
        downstream: Downstream | None = None,
    ) -> None:
        """See Connector."""
        if downstream is not None:
            raise ValueError(f"cluster {self._dialer.name} binds no connection to a client")
        codec = self._dialer.adopt(endpoint, handed.moment)
        pools = self._plain if self._pool_of is None else self._of_kind.setdefault(handed.kind, {})
        pool = pools.setdefault(endpoint, self._pool())
        pool.open += 1
        connection = SerialUpstream(
            stream, codec, self.plugin.traits, endpoint.address, requests=handed.requests
        )
        self._settle_idle(connection, endpoint, pool, handed.idle)

    def _settle_idle(
        self, connection: SerialUpstream, endpoint: Endpoint, pool: SerialPool, idle: int
    ) -> None:
        # One that nobody has used for a while comes behind those that are in use, and goes when its time is up: else
        # there would be more of them with each takeover.
        self.settle(connection, endpoint, pool)
        connection.idle_since -= idle
        if idle and connection in pool.idle:
            pool.idle.remove(connection)
            bisect.insort(pool.idle, connection, key=_idle_since)

    def continuation(self, endpoint: Endpoint, end: UpstreamEnd) -> Continuation:
        """See Connector."""
        if end.bound:
            raise ValueError(f"cluster {self._dialer.name} binds no connections to clients")
        codec = self._dialer.restore(end.parts)

        def go_on(stream: ByteStream, _request: Request) -> tuple[SerialUpstream, Releasable]:
            pools = self._plain if self._pool_of is None else self._of_kind.setdefault(end.kind, {})
            pool = pools.setdefault(endpoint, self._pool())
            self._dialer.adopted(endpoint)
            pool.open += 1
            traits = self.plugin.traits
            stream.half_close = traits.half_close
            connection = SerialUpstream(
                stream, codec, traits, endpoint.address, requests=end.requests
            )
            return connection, Lease(self, connection, endpoint, pool)

        return go_on

    def lane(self, endpoint: Endpoint, pool: SerialPool) -> tuple[Plain, ...]:
        """Return what leads another process to the same pool. Raises Stays."""
        dialer = self._dialer
        lane = (dialer.name, str(endpoint.address), self.plugin.name, dialer.settings, False)
        if self._pool_of is None:
            return (*lane, None)
        kind = next(k for k, pools in self._of_kind.items() if pools.get(endpoint) is pool)
        if not isinstance(kind, str):
            raise Stays(f"a connection of a pool of {type(kind).__name__}")
        return (*lane, kind)

    def departed(self, endpoint: Endpoint, pool: SerialPool) -> None:
        """A leased connection is another process's."""
        self._closed(endpoint, pool)


@attrs.define(eq=False)
class Lease:
    """A response whose body is still being read from its connection."""

    connector: SerialConnector
    connection: SerialUpstream
    endpoint: Endpoint
    pool: SerialPool
    _over: bool = False

    async def aclose(self) -> None:
        """See Releasable. Never blocks. A body not read to its end closes the connection."""
        if self._over:
            return
        self._over = True
        if self.connection.finished:
            self.connection.release()
            self.connector.settle(self.connection, self.endpoint, self.pool)
        else:
            self.connector.drop(self.connection, self.endpoint, self.pool)

    def note(self) -> tuple[object | None, Note | None]:
        """See SupportsNote: the cluster makes it anew."""
        return self.connection, Note(LEASE, self.connector.lane(self.endpoint, self.pool))

    def depart(self) -> None:
        """See SupportsNote."""
        if not self._over:
            self._over = True
            self.connection.release()
            self.connector.departed(self.endpoint, self.pool)


def _idle_since(connection: SerialUpstream) -> int:
    return connection.idle_since


def _may_resend(connection: SerialUpstream, request: Request) -> bool:
    # An endpoint may close an idle connection just as it is used: the normal race of keep-alive. Only what is
    # harmless to send twice is sent again, and a connection that has not answered before is no race.
    return (
        connection.requests > 1
        and request.head.idempotent
        # Of what goes into a tunnel nothing is taken before it is granted.
        and (type(request.body) is BytesBody or request.head.tunnel)
        and not request.record.response_started
    )


class DedicatedConnector:
    """A connection of its own for each stream (L4), or for each client (PROXY header: it names one client)."""

    __slots__ = ("_dialer", "_kept", "plugin")

    @property
    def key(self) -> tuple[str, str, int]:
        """What its connections are bound to their clients by."""
        return self._dialer.key

    def __init__(self, dialer: Dialer) -> None:
        self.plugin: CodecPlugin = dialer.plugin
        self._dialer = dialer
        self._kept: set[_Bound] = set()

    def pinned(self, request: Request) -> Endpoint | None:
        """See Connector."""
        bound = self._bound(request)
        return bound.endpoint if bound is not None else None

    def _bound(self, request: Request) -> _Bound | None:
        downstream = request.connection.downstream
        bound = downstream.bound(self._dialer.key) if downstream is not None else None
        return bound if isinstance(bound, _Bound) and bound.usable else None

    def leave(self, endpoint: Endpoint) -> None:
        """See Connector."""
        for bound in [one for one in self._kept if one.endpoint is endpoint and not one.busy]:
            bound.close_soon()

    def forget(self, endpoint: Endpoint) -> None:
        """See Connector: connections are kept by their clients."""

    async def exchange(self, request: Request, endpoint: Endpoint) -> Response:
        """See Connector."""
        bound = self._bound(request)
        if bound is None or bound.busy:
            bound = await self._open(request, endpoint)
        while True:
            bound.busy = True
            try:
                response = await bound.connection.exchange(request)
            except UpstreamReset:
                bound.close_soon()
                if _may_resend(bound.connection, request):
                    self._dialer.stats.upstream_rq_resent += 1
                    bound = await self._open(request, bound.endpoint)
                    continue
                raise
            except BaseException:
                bound.close_soon()
                raise
            if response.lease is not None or bound.alone:
                response.lease = bound
            else:
                bound.rest()
            return response

    async def _open(self, request: Request, endpoint: Endpoint) -> _Bound:
        self._dialer.breaker.check_connect(endpoint, request)
        stream, codec = await self._dialer.open(endpoint, request)
        connection = SerialUpstream(stream, codec, self.plugin.traits, endpoint.address)
        return self._keep(request, connection, endpoint)

    def _keep(self, request: Request, connection: SerialUpstream, endpoint: Endpoint) -> _Bound:
        downstream = request.connection.downstream
        old = downstream.bound(self._dialer.key) if downstream is not None else None
        # A client with several streams at a time has one connection kept for it, and others for a stream each.
        alone = (
            downstream is None
            or self.plugin.traits.headless
            or (isinstance(old, _Bound) and old.busy)
        )
        bound = _Bound(self._dialer, connection, endpoint, alone, self._kept)
        if downstream is not None and not alone:
            if old is not None:
                old.close_soon()
            downstream.bind(self._dialer.key, bound)
            self._kept.add(bound)
        return bound

    def tick(self, tick: int, idle_ticks: int) -> bool:
        """See Connector: bound connections live and die with their clients."""
        return False

    def close(self) -> None:
        """See Connector: bound connections live and die with their clients."""

    def give(self) -> Iterator[Given]:
        """See Connector: they move with their clients."""
        return iter(())

    def adopt(
        self,
        endpoint: Endpoint,
        stream: ByteStream,
        handed: Handed,
        downstream: Downstream | None = None,
    ) -> None:
        """See Connector: they move with their clients."""
        if downstream is None:
            raise ValueError("a connection that is bound to a client moves with it")
        codec = self._dialer.adopt(endpoint, handed.moment)
        traits = self.plugin.traits
        stream.half_close = traits.half_close
        connection = SerialUpstream(
            stream, codec, traits, endpoint.address, requests=handed.requests
        )
        bound = _Bound(self._dialer, connection, endpoint, False, self._kept)
        downstream.bind(self._dialer.key, bound)
        self._kept.add(bound)

    def continuation(self, endpoint: Endpoint, end: UpstreamEnd) -> Continuation:
        """See Connector."""
        if not end.bound:
            raise ValueError(f"cluster {self._dialer.name} binds each connection to its client")
        codec = self._dialer.restore(end.parts)

        def go_on(stream: ByteStream, request: Request) -> tuple[SerialUpstream, Releasable]:
            self._dialer.adopted(endpoint)
            traits = self.plugin.traits
            stream.half_close = traits.half_close
            connection = SerialUpstream(
                stream, codec, traits, endpoint.address, requests=end.requests
            )
            bound = self._keep(request, connection, endpoint)
            bound.busy = True
            return connection, bound

        return go_on


@attrs.define(eq=False)
class _Bound:
    dialer: Dialer
    connection: SerialUpstream
    endpoint: Endpoint
    alone: bool
    """For one stream, and closed with it."""
    kept: set[_Bound]
    """Those of the connector that wait for their clients' next request, and this one if it is kept for one."""
    busy: bool = False
    _closed: bool = False

    @property
    def usable(self) -> bool:
        # A client goes elsewhere with its next request when the endpoint was removed.
        return not (self._closed or self.endpoint.leaving) and (
            self.busy or self.connection.quiet()
        )

    def rest(self) -> None:
        self.busy = False
        if self.endpoint.leaving:
            self.close_soon()

    def close_soon(self) -> None:
        self.busy = False
        self.kept.discard(self)
        if not self._closed:
            self._closed = True
            self.connection.close()
            self.dialer.closed(self.endpoint)

    async def aclose(self) -> None:
        self.connection.release()
        if self.alone or not self.connection.finished:
            self.close_soon()
        else:
            self.rest()

    @property
    def quiet(self) -> bool:
        """See SupportsGive."""
        return not self.busy and not self._closed and self.connection.reusable

    def give(self) -> Given:
        """See SupportsGive."""
        connection = self.connection
        handed = Handed(
            protocol=self.dialer.plugin.name,
            moment=connection.freeze(),
            requests=connection.requests,
        )

        def leave() -> None:
            self.kept.discard(self)
            if not self._closed:
                self._closed = True
                connection.leave()
                self.dialer.closed(self.endpoint)

        return Given(endpoint=self.endpoint, handed=handed, stay=connection.thaw, leave=leave)

    def note(self) -> tuple[object | None, Note | None]:
        """See SupportsNote: the cluster makes it anew."""
        dialer = self.dialer
        place = (dialer.name, str(self.endpoint.address), dialer.plugin.name)
        return self.connection, Note(LEASE, (*place, dialer.settings, True, None))

    def depart(self) -> None:
        """See SupportsNote."""
        self.busy = False
        self.kept.discard(self)
        if not self._closed:
            self._closed = True
            self.connection.release()
            self.dialer.closed(self.endpoint)
