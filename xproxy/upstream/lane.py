"""Lanes: how a cluster's requests reach its endpoints in one protocol. Which lane it is follows from the traits."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

import attrs
import trio

from xproxy.codecs.api import Codec, CodecPlugin
from xproxy.config.schema import ClusterConfig
from xproxy.model.errors import ConnectFailed
from xproxy.model.limits import Limits
from xproxy.model.traits import Role
from xproxy.stream.exchange import ConnectionFacts, Request, Response
from xproxy.transport.dial import dial
from xproxy.transport.poller import Poller
from xproxy.transport.proxy_protocol import encode
from xproxy.transport.stream import ByteStream, write_all
from xproxy.transport.timers import Timers
from xproxy.upstream.breaker import Breaker
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.stats import ClusterStats


class Lane(Protocol):
    """Carries requests of one protocol to endpoints."""

    plugin: CodecPlugin

    def pinned(self, request: Request) -> Endpoint | None:
        """Return the endpoint this client must go to, as its connection is bound there."""
        ...

    def exchange(self, request: Request, endpoint: Endpoint) -> Awaitable[Response]:
        """Send ``request`` to ``endpoint`` and return the answer. Raises StreamError."""
        ...

    def tick(self, tick: int, idle_ticks: int) -> None:
        """Close what was not used for ``idle_ticks``."""
        ...

    def close(self) -> None:
        """Close everything at once."""
        ...


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

    @property
    def heartbeat(self) -> tuple[float, float, int] | None:
        """When to ask a silent peer whether it lives: (interval s, timeout s, misses); None: never."""
        keepalive = self.config.keepalive
        if not keepalive.interval:
            return None
        return keepalive.interval, keepalive.timeout, keepalive.max_misses

    async def open(self, endpoint: Endpoint, request: Request | None) -> tuple[ByteStream, Codec]:
        """Dial ``endpoint``; with a PROXY header for ``request``'s client if so configured. Raises ConnectFailed.

        Whoever gets the stream must call ``closed`` when it is closed.
        """
        self.stats.upstream_cx_active += 1
        endpoint.connections += 1
        try:
            stream = await dial(self.poller, endpoint.address, self.config.connect_timeout)
            stream.half_close = self.plugin.traits.half_close
            version = self.config.proxy_protocol
            if version is not None and request is not None:
                await _introduce(stream, version, request.connection, endpoint)
        except ConnectFailed:
            self.stats.upstream_cx_connect_fail += 1
            self.closed(endpoint)
            raise
        except BaseException:
            self.closed(endpoint)
            raise
        self.stats.upstream_cx_total += 1
        return stream, self.plugin.open(Role.CLIENT, self.limits)

    def closed(self, endpoint: Endpoint) -> None:
        """A connection that ``open`` counted is gone."""
        self.stats.upstream_cx_active -= 1
        endpoint.connections -= 1


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
