"""A whole proxy in this process, on real sockets: what tests of upstream/ and proxy/ have in common.

The runtime is the product's own. Upstreams and clients are the test's: each is a Trio stream that a script can play.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Final

import attrs
import trio

from tests.process.product import refusing_port as refusing_port
from tests.process.product import unused_port as unused_port
from xproxy.admin.handler import admin_handler
from xproxy.config.load import load_text
from xproxy.config.schema import Config, LimitsConfig
from xproxy.connection.service import DownstreamStats
from xproxy.proxy.runtime import Runtime
from xproxy.registry import (
    CODECS,
    DISCOVERY,
    FILTERS,
    HEALTH_CHECKS,
    LOAD_BALANCERS,
    Entry,
    Registry,
    default_registry,
)
from xproxy.testing import Party
from xproxy.upstream.cluster import Cluster

PATIENCE: Final = 60.0
"""Seconds any single thing may take before a test fails: a busy machine may stall for long."""
_LOOK: Final = 0.002
_STALLED: Final = 0.3
"""Seconds without progress after which a stream counts as stopped."""
_BUFFER: Final = 65_536
"""What ``small_buffers`` asks for, in bytes."""


async def eventually(holds: Callable[[], bool], what: str, *, within: float = PATIENCE) -> None:
    """Wait until ``holds``; fail with ``what`` if it does not come true. It may move Trio's clock."""
    end = time.monotonic() + within
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"not within {within:g} s: {what}")
        await trio.sleep(_LOOK)


def registry(*others: Entry) -> Registry:
    """Return what is installed, with the kit's fake protocols, and others."""
    fakes = [
        Entry.parse(CODECS, name, f"xproxy.testing.fakes:{name.upper()}", "tests", "0")
        for name in ("lines", "pieces")
    ]
    foreign = [
        Entry.parse(group, name, f"tests.foreign:{attribute}", "tests", "0")
        for group, name, attribute in (
            (LOAD_BALANCERS, "raising", "RaisingBalancer"),
            (FILTERS, "start_fails", "StartFails"),
            (FILTERS, "work_fails", "WorkFails"),
        )
    ]
    installed = default_registry()
    return Registry(
        [*(e for group in _GROUPS for e in installed.entries(group)), *fakes, *foreign, *others]
    )


_GROUPS: Final = (CODECS, FILTERS, HEALTH_CHECKS, LOAD_BALANCERS, DISCOVERY)


class Upstream:
    """A listening socket whose connections the test handles: one by one with ``accept``, or with ``serve``."""

    def __init__(self, listener: trio.SocketListener) -> None:
        self._listener = listener
        self.port: int = listener.socket.getsockname()[1]
        self.accepted = 0
        self._taken: list[trio.SocketStream] = []

    async def accept(self) -> trio.SocketStream:
        """Take the next connection of the proxy's."""
        with trio.fail_after(PATIENCE):
            stream = await self._listener.accept()
        self.accepted += 1
        self._taken.append(stream)
        return stream

    async def serve(self, handle: Callable[[trio.SocketStream], Awaitable[None]]) -> None:
        """Handle every connection, each in a task, until cancelled. A peer that goes away is fine."""

        async def guarded(stream: trio.SocketStream) -> None:
            async with stream:
                try:
                    await handle(stream)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return

        async with trio.open_nursery() as nursery:
            while True:
                stream = await self._listener.accept()
                self.accepted += 1
                nursery.start_soon(guarded, stream)

    async def aclose(self) -> None:
        """Refuse what comes from now on."""
        await self._listener.aclose()

    def close_all(self) -> None:
        """Close what ``accept`` gave out."""
        for stream in self._taken:
            stream.socket.close()


@asynccontextmanager
async def upstream(port: int = 0) -> AsyncIterator[Upstream]:
    """Listen on loopback."""
    (listener,) = await trio.open_tcp_listeners(port, host="127.0.0.1")
    async with listener:
        found = Upstream(listener)
        try:
            yield found
        finally:
            found.close_all()


@attrs.define(eq=False)
class Live:
    """The proxy at work."""

    runtime: Runtime
    registry: Registry
    _clients: list[trio.SocketStream] = attrs.field(factory=list)

    def port(self, listener: str = "edge") -> int:
        """Return where a listener listens."""
        return self.runtime.listeners[listener].address.port

    def stats(self, listener: str = "edge") -> DownstreamStats:
        """Return a listener's counters."""
        return self.runtime.listeners[listener].stats

    def cluster(self, name: str = "web") -> Cluster:
        """Return a cluster of the configuration in force."""
        assert self.runtime.snapshot is not None
        return self.runtime.snapshot.clusters[name]

    async def connect(self, listener: str = "edge") -> trio.SocketStream:
        """Open a client's connection."""
        with trio.fail_after(PATIENCE):
            stream = await trio.open_tcp_stream("127.0.0.1", self.port(listener))
        self._clients.append(stream)
        return stream

    def hang_up_all(self) -> None:
        """Close every client's connection."""
        for stream in self._clients:
            stream.socket.close()

    async def client(self, name: str = "client", listener: str = "edge") -> Party:
        """Open a client's connection for a script."""
        return Party(name, await self.connect(listener))

    async def reload(self, text: str) -> None:
        """Put another configuration in force. Raises XproxyError."""
        with trio.fail_after(PATIENCE):
            await self.runtime.reload(self.parse(text))

    def parse(self, text: str) -> Config:
        """Read a configuration."""
        return load_text(text, "test.yaml", self.registry)

    def leaks(self, *, clients: int | None = 0, upstreams: int | None = None) -> list[str]:
        """Name everything that is still held. ``clients`` connections may be open; None: any number.

        Streams, leases, waiters and permits must be gone in any case; a connection that a gauge counts must be a
        socket that the poller has, and the other way round.
        """
        found: list[str] = []

        def expect(name: str, value: int, wanted: int | None) -> None:
            if wanted is not None and value != wanted:
                found.append(f"{name} is {value}, not {wanted}")

        runtime = self.runtime
        assert runtime.snapshot is not None
        sockets = 0
        for name, active in runtime.listeners.items():
            stats = active.stats
            expect(f"{name}.downstream_rq_active", stats.downstream_rq_active, 0)
            expect(
                f"{name}.downstream_cx_active", stats.downstream_cx_active, len(active.connections)
            )
            sockets += len(active.connections)
            for service in active.plan.services:
                expect(f"{name}.service.streams", service.streams, 0)
        expect("clients", sockets, clients)
        ups = 0
        for name, cluster in runtime.snapshot.clusters.items():
            counted = cluster.stats
            expect(f"{name}.upstream_rq_active", counted.upstream_rq_active, 0)
            expect(f"{name}.upstream_rq_pending_active", counted.upstream_rq_pending_active, 0)
            expect(f"{name}.upstream_rq_retry_active", counted.upstream_rq_retry_active, 0)
            held = sum(endpoint.connections for endpoint in cluster.endpoints)
            expect(f"{name}.upstream_cx_active", counted.upstream_cx_active, held)
            ups += held
            for endpoint in cluster.endpoints:
                expect(f"{endpoint.address}.active", endpoint.active, 0)
        expect("upstream connections", ups, upstreams)
        expect("sockets in the poller", len(runtime.poller), sockets + ups)
        return found

    async def settled(
        self, *, clients: int | None = 0, upstreams: int | None = None, within: float = PATIENCE
    ) -> None:
        """Wait until nothing is held; fail with the names of what is."""
        try:
            await eventually(
                lambda: not self.leaks(clients=clients, upstreams=upstreams), "", within=within
            )
        except AssertionError:
            found = "; ".join(self.leaks(clients=clients, upstreams=upstreams))
            raise AssertionError(found) from None


@asynccontextmanager
async def running(
    text: str, *, admin: bool = False, plugins: Registry | None = None
) -> AsyncIterator[Live]:
    """Run a proxy from a configuration's text; leaving ends it at once."""
    plugins = registry() if plugins is None else plugins
    live = Live(Runtime(plugins, Random(7)), plugins)
    async with trio.open_nursery() as nursery:
        config = live.parse(text)
        await nursery.start(live.runtime.run, config, admin_handler if admin else None)
        try:
            yield live
        finally:
            live.hang_up_all()
            nursery.cancel_scope.cancel()


async def hang_up(party: Party) -> None:
    """Close a party's connection."""
    await socket_of(party).aclose()


async def finish(party: Party) -> None:
    """Let a party say that it will send nothing more."""
    await socket_of(party).send_eof()


def reset(party: Party) -> None:
    """Close a party's connection with RST."""
    sock = socket_of(party).socket
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def small_buffers(*streams: trio.SocketStream) -> None:
    """Give sockets of the test's small buffers that do not grow."""
    for stream in streams:
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            stream.setsockopt(socket.SOL_SOCKET, option, _BUFFER)


def held_on_the_way(*streams: trio.SocketStream) -> int:
    """Return how many bytes may be on the way from one of these to the other, through the proxy.

    The kernel holds, at the test's own ends, what they have been given, and at the proxy's two the most to which this
    machine lets a buffer grow. What the proxy itself may hold is the outboxes, and as much again being read.
    """
    ours = sum(
        stream.getsockopt(socket.SOL_SOCKET, option)
        for stream in streams
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF)
    )
    most = (Path(f"/proc/sys/net/ipv4/tcp_{way}mem").read_text().split()[2] for way in "rw")
    return ours + sum(map(int, most)) + 4 * LimitsConfig().max_outbox_bytes


async def taken_from(stream: trio.SocketStream, most: int, piece: bytes = bytes(_BUFFER)) -> int:
    """Send until nothing more is taken for a while, or more than ``most`` bytes are; return how many were."""
    taken = 0
    while taken <= most:
        with trio.move_on_after(_STALLED) as scope:
            await stream.send_all(piece)
            taken += len(piece)
        if scope.cancelled_caught:
            break
    return taken


def socket_of(party: Party) -> trio.SocketStream:
    """Return the socket of a party's own end."""
    assert isinstance(party.stream, trio.SocketStream)
    return party.stream


def port_of(party: Party) -> int:
    """Return the port at a party's own end."""
    port: int = socket_of(party).socket.getsockname()[1]
    return port


async def refused(port: int) -> None:
    """Check that nobody listens there any more."""
    try:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
    except OSError:
        return
    await stream.aclose()
    raise AssertionError(f"port {port} accepts connections")


def web(*ports: int, timeouts: str = "{}", listener: str = "", **fields: object) -> str:
    """Return a configuration with one listener ``edge`` and one cluster ``web`` of these ports."""
    extra = "".join(f"    {key}: {value}\n" for key, value in fields.items())
    return (
        "listeners:\n"
        "  - name: edge\n"
        "    address: 127.0.0.1:0\n"
        "    routes: main\n"
        f"    timeouts: {timeouts}\n"
        f"{listener}"
        "routes:\n"
        "  main:\n"
        "    - cluster: web\n"
        "clusters:\n"
        "  web:\n"
        f"    endpoints: [{', '.join(f'127.0.0.1:{port}' for port in ports)}]\n"
        f"{extra}"
    )


def http_response(body: bytes = b"", status: str = "200 OK", **headers: str) -> bytes:
    """Return a response whose length is declared."""
    fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{fields}\r\n".encode() + body


async def read_head(stream: trio.SocketStream) -> bytes:
    """Read one HTTP/1.1 head without a body, byte-exact; empty at the end of the input."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = await stream.receive_some(1)
        if not piece:
            return b""
        head += piece
    return head


def answering(body: bytes = b"ok") -> Callable[[trio.SocketStream], Awaitable[None]]:
    """Return a server of bodiless requests that always gives the same answer."""

    async def serve(stream: trio.SocketStream) -> None:
        buffer = b""
        async for data in stream:
            buffer += data
            while b"\r\n\r\n" in buffer:
                _, _, buffer = buffer.partition(b"\r\n\r\n")
                await stream.send_all(http_response(body))

    return serve


GET: Final = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
