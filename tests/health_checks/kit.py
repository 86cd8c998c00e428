"""Endpoints to be checked, and checks to be made: over real sockets, without a proxy round them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio

from tests.live import PATIENCE, Upstream, upstream
from tests.transport.ends import polling
from xproxy.codecs.api import CodecPlugin
from xproxy.config.codecs import call_codecs, ordinary_codec
from xproxy.config.schema import ClusterConfig, EndpointConfig
from xproxy.model.address import Address
from xproxy.model.frames import Frame, Head, Reply
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.registry import Registry, default_registry
from xproxy.transport.poller import Poller
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.health.api import HealthCheck, Passed, Spoken
from xproxy.upstream.health.probe import EndpointProbe, Probing

REGISTRY: Final[Registry] = default_registry()

Serving = Callable[[trio.SocketStream], Awaitable[None]]


def answering_in(protocol: str, status: Status = Status.OK) -> Serving:
    """Serve calls in a protocol, each with this status, by its own codec."""
    plugin = REGISTRY.codec(protocol)

    async def serve(stream: trio.SocketStream) -> None:
        codec = plugin.open(Role.SERVER, DEFAULT_LIMITS)
        asked = list(codec.receive(b""))
        while True:
            for frame in asked:
                data = _said(frame)
                if isinstance(frame, Head) and isinstance(frame.message, RequestHead):
                    data = codec.send(Head(frame.stream_id, ResponseHead(status=status), end=True))
                if data:
                    await stream.send_all(data)
            received = await stream.receive_some()
            if not received:
                return
            asked = list(codec.receive(received))

    return serve


def _said(frame: Frame) -> bytes:
    return frame.data if isinstance(frame, Reply) else b""


@attrs.define(eq=False)
class Bench:
    """Where checks are made."""

    poller: Poller

    def probe(
        self,
        port: int,
        own: CodecPlugin | None = None,
        hostname: str = "",
        proxy_protocol: str | None = None,
    ) -> EndpointProbe:
        address = Address("127.0.0.1", port)
        config = ClusterConfig(
            endpoints=(EndpointConfig(address=address),),
            proxy_protocol=proxy_protocol,  # type: ignore[arg-type]  # v1 or v2
        )
        spoken = Spoken(REGISTRY.codec, own, ordinary_codec(REGISTRY), call_codecs(REGISTRY))
        probing = Probing("web", config, self.poller, DEFAULT_LIMITS, None, spoken)
        return EndpointProbe(probing, Endpoint(address, hostname=hostname))

    async def check(
        self, check: HealthCheck, port: int, own: CodecPlugin | None = None, hostname: str = ""
    ) -> Passed | None:
        """Make one check with a connection of its own. Raises what it raises."""
        probe = self.probe(port, own, hostname)
        try:
            with trio.fail_after(PATIENCE):
                return await check(probe)
        finally:
            probe.close()


@asynccontextmanager
async def bench(serve: Serving) -> AsyncIterator[tuple[Bench, Upstream]]:
    """Run an endpoint, and give what checks it."""
    async with polling() as poller, upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, serve)
        yield Bench(poller), up
        nursery.cancel_scope.cancel()


def scripted(*answers: bytes, hear: list[bytes] | None = None) -> Serving:
    """Answer whatever comes with these, one after the other; then hang up."""

    async def serve(stream: trio.SocketStream) -> None:
        for answer in answers:
            heard = await stream.receive_some()
            if hear is not None:
                hear.append(heard)
            if answer:
                await stream.send_all(answer)

    return serve
