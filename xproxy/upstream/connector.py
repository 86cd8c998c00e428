"""How a cluster's requests reach its endpoints in one protocol. Which connector it is follows from the traits."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Protocol, TypeAlias
from weakref import WeakSet

import attrs
import trio

from xproxy.codecs.api import Codec, CodecPlugin, RestoringPlugin, supports
from xproxy.config.schema import ClusterConfig
from xproxy.connection.flowing import UpstreamEnd
from xproxy.connection.serial.upstream import SerialUpstream
from xproxy.connection.standing import Moment
from xproxy.connection.wire import Parts
from xproxy.model.errors import ConnectFailed
from xproxy.model.limits import Limits
from xproxy.model.traits import Role, Sharing
from xproxy.stream.exchange import ConnectionFacts, Downstream, Releasable, Request, Response
from xproxy.transport.dial import dial
from xproxy.transport.poller import Poller
from xproxy.transport.proxy_protocol import encode
from xproxy.transport.stream import ByteStream, write_all
from xproxy.transport.timers import Timers
from xproxy.upstream.agreement import Agreement
from xproxy.upstream.breaker import Breaker
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.moving import Given, Handed, settings_of
from xproxy.upstream.origination import Origination
from xproxy.upstream.stats import ClusterStats
from xproxy.upstream.ticker import Ticked, Ticker


class Connector(Protocol):
    """Carries requests of one protocol to endpoints."""

    plugin: CodecPlugin

    def pinned(self, request: Request) -> Endpoint | None:
        """Return the endpoint this client must go to, as its connection is bound there."""
        ...

    def exchange(self, request: Request, endpoint: Endpoint) -> Awaitable[Response]:
        """Send ``request`` to ``endpoint`` and return the answer. Raises StreamError."""
        ...

    def tick(self, tick: int, idle_ticks: int) -> bool:
        """Close what was not used for ``idle_ticks``. Return whether there is anything left to look after."""
        ...

    def leave(self, endpoint: Endpoint) -> None:
        """Close connections to ``endpoint``, which was removed, when they are done. May be called again."""
        ...

    def forget(self, endpoint: Endpoint) -> None:
        """Keep nothing of ``endpoint``, which has drained."""
        ...

    def close(self) -> None:
        """Close everything at once."""
        ...

    def give(self) -> Iterator[Given]:
        """Give the connections that wait for a request, one after another, to go to another process.

        A connection that cannot be written down stays. What falls idle meanwhile may be given or not.
        """
        ...

    def adopt(
        self,
        endpoint: Endpoint,
        stream: ByteStream,
        handed: Handed,
        downstream: Downstream | None = None,
    ) -> None:
        """Go on with a connection that another process gave. Raises ValueError if this connector cannot.

        ``downstream``: the client's that it is bound to.
        """
        ...

    def continuation(self, endpoint: Endpoint, end: UpstreamEnd) -> Continuation:
        """Return what goes on with a connection that another process gave amid an exchange. Raises ValueError."""
        ...


Continuation: TypeAlias = Callable[[ByteStream, Request], tuple[SerialUpstream, Releasable]]
"""Takes the stream and the request, once at most; counts the connection, and returns it with what releases it."""

Opened: TypeAlias = MutableMapping[Endpoint, WeakSet[ByteStream]]
"""The streams of a cluster by endpoint, as long as somebody has them."""

_numbers = itertools.count()


@attrs.define(eq=False)
class Dialer:
    """Opens connections for a cluster, and keeps count of them."""

    name: str
    config: ClusterConfig
    plugin: CodecPlugin
    poller: Poller
    timers: Timers
    stats: ClusterStats
    breaker: Breaker
    limits: Limits
    ticker: Ticker
    owner: Ticked
    """Is looked after by the ticker while there are connections."""
    origination: Origination | None = None
    """TLS; None: plaintext."""
    agreement: Agreement | None = None
    """The endpoint chooses the protocol in TLS; None: it must take ours."""
    opened: Opened | None = None
    """The streams are kept here, so that they can be cut; None: they are not."""
    connections: int = 0
    """Open or being opened."""
    _pools: dict[Endpoint, int] = attrs.field(factory=dict, init=False, repr=False)
    """Of these, how many to each endpoint: a pool is in use while there are any."""
    key: tuple[str, str, int] = attrs.field(
        default=attrs.Factory(
            lambda self: (self.name, self.plugin.name, next(_numbers)), takes_self=True
        ),
        init=False,
    )
    """What upstream connections are bound to a client by: cluster, protocol, and a number."""

    @property
    def heartbeat(self) -> tuple[float, float, int] | None:
        """When to ask a silent peer whether it lives: (interval s, timeout s, misses); None: never."""
        keepalive = self.config.keepalive
        if not keepalive.interval:
            return None
        return keepalive.interval, keepalive.timeout, keepalive.max_misses

    @property
    def settings(self) -> bytes:
        """A digest of what the cluster says about its connections."""
        return settings_of(self.config)

    @property
    def _needs_alpn(self) -> bool:
        # A server that agrees on nothing takes one request after the other, as before there was ALPN: frames would be
        # noise to it (RFC 9113 §3.2).
        traits = self.plugin.traits
        return bool(traits.alpn) and traits.sharing is Sharing.FRAMES

    async def open(self, endpoint: Endpoint, request: Request | None) -> tuple[ByteStream, Codec]:
        """Dial ``endpoint``; with a PROXY header for ``request``'s client if so configured.

        Raises ConnectFailed, and Overflow where there may be no other pool. Whoever gets the stream must call
        ``closed`` when it is closed.
        """
        if endpoint not in self._pools:
            (self.breaker if request is None else self.breaker.of(request)).check_pool()
        self.adopted(endpoint)
        try:
            stream = None
            if self.agreement is not None:
                stream = self.agreement.take(endpoint, self.plugin.name)
            if stream is None:
                stream = await self._dial(endpoint, request)
            stream.half_close = self.plugin.traits.half_close
            if self.opened is not None:
                self.opened.setdefault(endpoint, WeakSet()).add(stream)
        except ConnectFailed:
            self.stats.upstream_cx_connect_fail += 1
            self.closed(endpoint)
            raise
        except BaseException:
            self.closed(endpoint)
            raise
        self.stats.upstream_cx_total += 1
        return stream, self.plugin.open(Role.CLIENT, self.limits)

    async def _dial(self, endpoint: Endpoint, request: Request | None) -> ByteStream:
        address, timeout = endpoint.address, self.config.connect_timeout
        deadline = trio.current_time() + timeout
        stream = await dial(self.poller, endpoint.dial or address, timeout)
        version = self.config.proxy_protocol
        if version is not None and request is not None:
            await _introduce(stream, version, request.connection, endpoint)
        if self.origination is None:
            return stream
        agreement = self.agreement
        alpn = agreement.alpn if agreement is not None else self.plugin.traits.alpn
        with trio.move_on_at(deadline):
            secured = await self.origination.secure(
                stream, address, alpn, endpoint.hostname or None
            )
            self.stats.upstream_tls_handshakes += 1
            self.stats.upstream_tls_resumed += secured.facts.resumed
            if agreement is not None:
                agreement.settle(endpoint, secured.facts.alpn, secured, self.plugin.name)
            elif self._needs_alpn and secured.facts.alpn is None:
                secured.close()
                raise ConnectFailed(
                    f"{address}: TLS: the endpoint did not agree on {alpn[0]} (ALPN)"
                )
            return secured
        raise ConnectFailed(
            f"{address}: TLS handshake not over within {timeout:g} s (connect_timeout)"
        )

    def adopt(self, endpoint: Endpoint, moment: Moment) -> Codec:
        """Count a connection that was opened elsewhere, and return its codec. Raises ValueError, and counts nothing.

        Whoever calls it must call ``closed`` when it is closed.
        """
        codec = self.restore(moment.parts)
        self.adopted(endpoint)
        return codec

    def restore(self, parts: Parts) -> Codec:
        """Return the codec of a connection that was opened elsewhere. Raises ValueError."""
        plugin = self.plugin
        if not supports(plugin, RestoringPlugin):
            raise ValueError(f"{plugin.name} cannot go on with what was written down")
        if (self.origination is not None) != bool(parts.stream):
            raise ValueError(f"cluster {self.name} has TLS only on one of both sides")
        return plugin.restore(parts.codec, Role.CLIENT, self.limits)

    def adopted(self, endpoint: Endpoint) -> None:
        """Count a connection that is being opened here, or was elsewhere."""
        pools = self._pools
        before = pools.get(endpoint, 0)
        pools[endpoint] = before + 1
        self.stats.upstream_cx_pools += not before
        self.stats.upstream_cx_active += 1
        endpoint.connections += 1
        self.connections += 1
        self.ticker.watch(self.owner)

    def closed(self, endpoint: Endpoint) -> None:
        """A connection that ``open`` or ``adopt`` counted is gone."""
        left = self._pools.pop(endpoint) - 1
        if left:
            self._pools[endpoint] = left
        else:
            self.stats.upstream_cx_pools -= 1
        self.stats.upstream_cx_active -= 1
        endpoint.connections -= 1
        self.connections -= 1


async def _introduce(
    stream: ByteStream, version: str, client: ConnectionFacts, endpoint: Endpoint
) -> None:
    """Send the PROXY header for ``client``; a stream that takes none is closed. Raises ConnectFailed."""
    try:
        await write_all(stream, encode(version, client.peer, client.local))
    except trio.BrokenResourceError as exc:
        stream.close()
        raise ConnectFailed(f"{endpoint.address} did not take the PROXY header") from exc
    except BaseException:
        stream.close()
        raise
