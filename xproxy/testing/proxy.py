r"""A client, the proxy's own drivers, and an upstream, in memory: filters and codecs at work without a socket.

    async def test_the_answer_is_marked(autojump_clock: MockClock) -> None:
        async with proxy_pair(HTTP1, filters=[Mark()]) as pair:
            await pair.client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            upstream = await pair.accept()
            await upstream.expect(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            ...

With a clock that jumps by itself no timeout takes real time.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, TypeAlias

import attrs
import trio
from trio.testing import lockstep_stream_pair, memory_stream_pair

from xproxy.codecs.api import CodecPlugin
from xproxy.config.schema import TimeoutsConfig
from xproxy.connection.serial.downstream import SerialDownstream
from xproxy.connection.serial.upstream import SerialUpstream
from xproxy.connection.service import DownstreamStats, FilterChain, Service
from xproxy.connection.shared.multiplexed import Multiplexed
from xproxy.model.address import Address
from xproxy.model.limits import DEFAULT_LIMITS, MIB, Limits
from xproxy.model.traits import Role, Sharing, Traits
from xproxy.stream.chain import compose
from xproxy.stream.exchange import (
    ConnectionFacts,
    Filter,
    Handler,
    Releasable,
    Request,
    Response,
    SupportsRefusals,
)
from xproxy.testing.script import Party
from xproxy.transport.timers import Timers
from xproxy.transport.trio_stream import TrioStream

CLIENT: Final = Address("192.0.2.1", 40000)
PROXY: Final = Address("192.0.2.2", 15001)
UPSTREAM: Final = Address("192.0.2.3", 9080)

_MOST_UPSTREAM_CONNECTIONS: Final = 1000

MemoryStream: TypeAlias = trio.abc.HalfCloseableStream


class End(Party):
    """What talks to the proxy: the client, or an upstream."""

    @property
    def raw(self) -> MemoryStream:
        """The stream itself."""
        assert isinstance(self.stream, trio.abc.HalfCloseableStream)
        return self.stream

    async def send_eof(self) -> None:
        """Finish sending; go on receiving."""
        await self.raw.send_eof()

    async def aclose(self) -> None:
        """Go away."""
        await trio.aclose_forcefully(self.raw)


@attrs.define(eq=False)
class ProxyPair:
    """The ends to play with, and what can be looked at inside."""

    client: End
    driver: SerialDownstream | Multiplexed
    stream: TrioStream
    """The proxy's side of the client's connection."""
    chain: FilterChain
    timers: Timers
    connector: Connector
    """The way to the upstream: the handler, unless the test brings its own."""
    ended: trio.Event = attrs.field(factory=trio.Event)
    """Set when the driver has ended."""
    requests: list[Request] = attrs.field(factory=list)
    """What arrived at the innermost handler."""

    async def accept(self) -> End:
        """Return the upstream's end of the next connection that the proxy opens."""
        return await self.connector.opened.receive()

    @property
    def stats(self) -> DownstreamStats:
        """The listener's counters."""
        return self.chain.stats


class Connector:
    """The simplest way to an upstream: one connection at a time for each stream, or one shared by all."""

    def __init__(
        self,
        plugin: CodecPlugin,
        limits: Limits,
        timers: Timers,
        nursery: trio.Nursery,
        connect: Callable[[], tuple[MemoryStream, MemoryStream]],
    ) -> None:
        self.plugin = plugin
        self.shared: Multiplexed | None = None
        self.idle: list[SerialUpstream] = []
        self.leased = 0
        """Exchanges that hold a connection."""
        self._limits = limits
        self._timers = timers
        self._nursery = nursery
        self._connect = connect
        self._accepting, self.opened = trio.open_memory_channel[End](_MOST_UPSTREAM_CONNECTIONS)

    async def __call__(self, request: Request) -> Response:
        """See Handler."""
        traits = self.plugin.traits
        if (traits.upstream_sharing or traits.sharing) is not Sharing.SERIAL:
            return await self._multiplexed().call(request)
        connection = self._take()
        self.leased += 1
        try:
            response = await connection.exchange(request)
        except BaseException:
            self.leased -= 1
            connection.close()
            raise
        if response.lease is None:
            self.give_back(connection)
        else:
            response.lease = _Lease(self, connection)
        return response

    def _take(self) -> SerialUpstream:
        while self.idle:
            connection = self.idle.pop()
            if connection.reusable:
                return connection
            connection.close()
        codec = self.plugin.open(Role.CLIENT, self._limits)
        return SerialUpstream(self._open(), codec, self.plugin.traits, UPSTREAM)

    def _multiplexed(self) -> Multiplexed:
        if self.shared is None or not self.shared.serving:
            codec = self.plugin.open(Role.CLIENT, self._limits)
            facts = facts_of(self.plugin.name, self.plugin.traits)
            stream = self._open()
            self.shared = Multiplexed(stream, codec, Role.CLIENT, facts, None, self._timers)
            self._nursery.start_soon(self.shared.run)
        return self.shared

    def _open(self) -> TrioStream:
        ours, theirs = self._connect()
        stream = TrioStream(ours, UPSTREAM, PROXY)
        stream.half_close = self.plugin.traits.half_close
        self._nursery.start_soon(stream.run)
        self._accepting.send_nowait(End("upstream", theirs))
        return stream

    def give_back(self, connection: SerialUpstream) -> None:
        """An exchange is over."""
        self.leased -= 1
        connection.release()
        if connection.reusable and connection.finished:
            self.idle.append(connection)
        else:
            connection.close()


@attrs.define(eq=False)
class _Lease(Releasable):
    connector: Connector
    connection: SerialUpstream
    over: bool = False

    async def aclose(self) -> None:
        if not self.over:
            self.over = True
            self.connector.give_back(self.connection)


def facts_of(protocol: str, traits: Traits) -> ConnectionFacts:
    """Return the facts of the client's connection."""
    return ConnectionFacts(
        id=1, listener="test", protocol=protocol, traits=traits, peer=CLIENT, local=PROXY
    )


@contextlib.asynccontextmanager
async def proxy_pair(
    plugin: CodecPlugin,
    *,
    upstream: CodecPlugin | None = None,
    handler: Handler | None = None,
    filters: Sequence[Filter] = (),
    timeouts: TimeoutsConfig | None = None,
    limits: Limits = DEFAULT_LIMITS,
    max_streams: int = 1024,
    max_outbox_bytes: int = MIB,
    bounded: bool = False,
    first: bytes = b"",
) -> AsyncIterator[ProxyPair]:
    """Connect a client to the proxy's driver for ``plugin``; what it asks is forwarded to ``pair.accept()``.

    Args:
        plugin: the client's protocol.
        upstream: the upstream's protocol, where it is another one.
        handler: answers instead of the upstream.
        filters: go round every request, the first one outermost.
        timeouts: of the listener; the defaults if None.
        limits: of both codecs.
        max_streams: in flight on the client's connection, where it can have many.
        max_outbox_bytes: waiting for the client, likewise.
        bounded: an end that does not read makes the proxy wait, as a socket would; otherwise memory takes it all.
        first: bytes of the client that were read before the protocol was known.

    Raises:
        AssertionError: in the end a request, or the lease of an upstream connection, is still counted.

    """
    timers = Timers()
    connect = lockstep_stream_pair if bounded else memory_stream_pair
    ours, theirs = connect()
    stream = TrioStream(ours, CLIENT, PROXY)
    stream.half_close = plugin.traits.half_close
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        nursery.start_soon(stream.run)
        connector = Connector(upstream or plugin, limits, timers, nursery, connect)
        innermost = handler or connector

        async def note(request: Request) -> Response:
            pair.requests.append(request)
            return await innermost(request)

        service = Service(
            compose(filters, note),
            timeouts or TimeoutsConfig(),
            max_outbox_bytes,
            max_streams,
            limits.max_message_bytes,
            tuple(one.refused for one in filters if isinstance(one, SupportsRefusals)),
        )
        chain = FilterChain("test", service, DownstreamStats())
        driver = _driver(plugin, stream, chain, timers, limits)
        pair = ProxyPair(End("client", theirs), driver, stream, chain, timers, connector)
        nursery.start_soon(_drive, driver, first, pair.ended)
        try:
            yield pair
        finally:
            nursery.cancel_scope.cancel()
    assert chain.stats.downstream_rq_active == 0, "a request is still counted as active"
    assert service.streams == 0, "a stream still uses the service"
    assert connector.leased == 0, "an upstream connection is still leased"


def _driver(
    plugin: CodecPlugin, stream: TrioStream, chain: FilterChain, timers: Timers, limits: Limits
) -> SerialDownstream | Multiplexed:
    codec = plugin.open(Role.SERVER, limits)
    facts = facts_of(plugin.name, plugin.traits)
    if plugin.traits.sharing is Sharing.SERIAL:
        return SerialDownstream(stream, codec, facts, chain, timers)
    return Multiplexed(
        stream,
        codec,
        Role.SERVER,
        facts,
        chain,
        timers,
        max_outbox_bytes=chain.service.max_outbox_bytes,
        max_message_bytes=limits.max_message_bytes,
        write_stall=chain.service.timeouts.write,
    )


async def _drive(driver: SerialDownstream | Multiplexed, first: bytes, ended: trio.Event) -> None:
    try:
        await driver.run(first)
    finally:
        ended.set()
