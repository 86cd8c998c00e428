"""Many requests at a time on a connection that is bound to one client's: its server may call the client back."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import trio

from xproxy.codecs.api import Codec, CodecPlugin
from xproxy.connection.flowing import UpstreamEnd
from xproxy.connection.service import DownstreamStats, FilterChain, Service, Timeouts
from xproxy.connection.shared.multiplexed import Multiplexed
from xproxy.connection.standing import Moment, Standing
from xproxy.model.errors import ConnectFailed, Unsupported, UpstreamRefused
from xproxy.model.traits import Role
from xproxy.stream.exchange import Downstream, Request, Response
from xproxy.transport.stream import ByteStream
from xproxy.upstream.connector import Continuation, Dialer
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.moving import Given, Handed
from xproxy.upstream.queue import Queue, Waiter
from xproxy.upstream.shared_connector import upstream_facts
from xproxy.upstream.shared_pool import SharedPool, premature


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


@attrs.define(eq=False)
class _Dial:
    """A connection that is being opened for one request of a client, and that its others wait for."""

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


class BoundConnector:
    """Each client's connection has its own upstream connection, over which the server may call the client."""

    __slots__ = ("_bound_ones", "_dialer", "_nursery", "_opening", "plugin")

    @property
    def key(self) -> tuple[str, str, int]:
        """What its connections are bound to their clients by."""
        return self._dialer.key

    def __init__(self, dialer: Dialer, nursery: trio.Nursery) -> None:
        self.plugin: CodecPlugin = dialer.plugin
        self._dialer = dialer
        self._nursery = nursery
        self._opening: dict[int, _Dial] = {}
        self._bound_ones: set[_BoundConnection] = set()

    def pinned(self, request: Request) -> Endpoint | None:
        """See Connector."""
        bound = self._bound(request)
        return bound.endpoint if bound is not None else None

    def _bound(self, request: Request) -> _BoundConnection | None:
        downstream = request.connection.downstream
        bound = downstream.bound(self._dialer.key) if downstream is not None else None
        if isinstance(bound, _BoundConnection) and bound.connection.serving:
            return bound
        return None

    async def exchange(self, request: Request, endpoint: Endpoint) -> Response:
        """See Connector."""
        client = request.connection.id
        opened: _BoundConnection | None = None
        while True:
            bound = self._bound(request)
            if bound is not None:
                pool, connection = bound.pool, bound.connection
                if pool is None:
                    return await connection.call(request)
                if not _goes_on(connection, pool):
                    # Who opened it has not been refused: nor is it now, for what its server has yet to say.
                    waiter = pool.waiter(request) if bound is opened else Waiter(request)
                    if not await _place(waiter, connection, pool):
                        continue
                try:
                    return await connection.call(request)
                except BaseException:
                    pool.look()  # its place is another's, if it could not be sent
                    raise
            if opened is not None:
                raise UpstreamRefused(
                    f"{endpoint.address} went away before it said what it takes", leaving=True
                )
            opening = self._opening.get(client)
            if opening is not None:
                await opening.wait(endpoint)
                continue
            opening = self._opening[client] = _Dial(endpoint)
            try:
                opened = await self._open(request, endpoint)
            except ConnectFailed as error:
                opening.error = error
                raise
            finally:
                del self._opening[client]
                opening.done.set()
            if not premature(opened.connection, request):
                return await opened.connection.call(request)

    async def _open(self, request: Request, endpoint: Endpoint) -> _BoundConnection:
        dialer = self._dialer
        downstream = request.connection.downstream
        if downstream is None:
            raise Unsupported("the request has no connection that another one can be bound to")
        dialer.breaker.check_connect(endpoint, request)
        stream, codec = await dialer.open(endpoint, request)
        return self._bind(downstream, endpoint, stream, codec)

    def _bind(
        self,
        downstream: Downstream,
        endpoint: Endpoint,
        stream: ByteStream,
        codec: Codec,
        moment: Moment | None = None,
    ) -> _BoundConnection:
        dialer = self._dialer
        limits = dialer.limits
        service = Service(
            Reverse(downstream), _TIMEOUTS, 1 << 20, limits.max_streams, limits.max_message_bytes
        )
        chain = FilterChain(f"cluster {dialer.name}", service, DownstreamStats())
        facts = upstream_facts(dialer, endpoint)
        connection = Multiplexed(
            stream, codec, Role.CLIENT, facts, chain, dialer.timers, moment=moment
        )
        pool = None
        if connection.wire.concurrency is not None:
            queue = Queue[Multiplexed | None](dialer.breaker)
            pool = SharedPool(queue, 1, _no_other)
            pool.add(connection)
        bound = _BoundConnection(connection, endpoint, pool, dialer.plugin.name)
        downstream.bind(self._dialer.key, bound)
        self._nursery.start_soon(self._run, bound, downstream)
        return bound

    async def _run(self, bound: _BoundConnection, downstream: Downstream) -> None:
        self._bound_ones.add(bound)
        try:
            await bound.connection.run(heartbeat=self._dialer.heartbeat)
        finally:
            self._bound_ones.discard(bound)
            # One that was told to go away may have a successor by now.
            if downstream.bound(self._dialer.key) is bound:
                downstream.unbind(self._dialer.key)
            self._dialer.closed(bound.endpoint)

    def tick(self, tick: int, idle_ticks: int) -> bool:
        """See Connector: bound connections live and die with their clients."""
        return False

    def leave(self, endpoint: Endpoint) -> None:
        """See Connector: a client goes elsewhere with its next request."""
        for bound in [one for one in self._bound_ones if one.endpoint is endpoint]:
            bound.connection.drain()

    def forget(self, endpoint: Endpoint) -> None:
        """See Connector: connections are kept by their clients."""

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
        self._bind(downstream, endpoint, stream, codec, handed.moment)

    def continuation(self, endpoint: Endpoint, end: UpstreamEnd) -> Continuation:
        """See Connector: amid an exchange they stay."""
        raise ValueError("a connection with many requests at a time stays while it has any")


@attrs.frozen(eq=False)
class Reverse:
    """Hands a server's request to the client whose connection it came for."""

    downstream: Downstream

    async def __call__(self, request: Request) -> Response:
        """See Handler."""
        return await self.downstream.call(request)


def _goes_on(connection: Multiplexed, pool: SharedPool) -> bool:
    """Whether a request need not wait for a place on its client's connection."""
    return pool.only is not None and pool.takes(connection) and not connection.wire.outbox.full


async def _place(waiter: Waiter, connection: Multiplexed, pool: SharedPool) -> bool:
    """Wait for one. False: look again, and maybe for another connection."""
    outbox = connection.wire.outbox
    if outbox.full:
        await outbox.room()
    if pool.waiting:
        pool.look()
    if connection.serving and not pool.takes(connection):
        given = await pool.wait(waiter)
        if given is None:
            pool.look()  # nobody gets a place there any more: the next one learns of it, too
    return connection.serving and pool.takes(connection) and not outbox.full


def _no_other(usable: int, _request: Request) -> bool:
    # Beside a client's connection there is none. When it has gone, those who wait look for themselves.
    return usable == 0


@attrs.frozen(eq=False)
class _BoundConnection:
    connection: Multiplexed
    endpoint: Endpoint
    pool: SharedPool | None
    """Where requests wait for a place on it; None: its peer does not say how many it takes."""

    protocol: str

    def close_soon(self) -> None:
        self.connection.close_soon()

    @property
    def quiet(self) -> bool:
        """See SupportsGive."""
        return self.connection.standing is Standing.IDLE

    def give(self) -> Given:
        """See SupportsGive."""
        connection = self.connection
        handed = Handed(protocol=self.protocol, moment=connection.freeze())
        return Given(
            endpoint=self.endpoint,
            handed=handed,
            stay=connection.thaw,
            leave=connection.leave,
        )
