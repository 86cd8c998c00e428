"""A shared connection that moves from driver to driver, while its streams go on in the ones that they began in."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import attrs
import trio
from trio.testing import wait_all_tasks_blocked

from tests.http2_peer import Http2Peer
from tests.transport.ends import HERE, PATIENCE, THERE, connected, polling
from xproxy.codecs.api import Codec, CodecPlugin, RestoringPlugin
from xproxy.codecs.http2.plugin import PLUGIN as HTTP2
from xproxy.config.schema import TimeoutsConfig
from xproxy.connection.service import DownstreamStats, FilterChain, Service
from xproxy.connection.shared.multiplexed import Multiplexed
from xproxy.connection.standing import Moment, Standing
from xproxy.model.frames import Frame, Head, Reply, Trailers
from xproxy.model.limits import DEFAULT_LIMITS, MIB, Duration
from xproxy.model.message import RequestHead, ResponseHead, Target
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.stream.body import Body, BytesBody
from xproxy.stream.exchange import Handler, Request, Response
from xproxy.testing.proxy import facts_of
from xproxy.transport.poller import Poller
from xproxy.transport.stream import ByteStream
from xproxy.transport.timers import Timers
from xproxy.transport.tls.stream import resume

F = TypeVar("F", bound=Frame)

OK = ResponseHead(status=Status.OK, native_status=200)


class Script:
    """A handler that does, for each path, what a test tells it."""

    def __init__(self) -> None:
        self.requests: dict[str, Request] = {}
        self.go: dict[str, trio.Event] = {}
        self.answers: dict[str, Response] = {}
        self.cancelled: list[str] = []

    async def __call__(self, request: Request) -> Response:
        path = self.name_of(request)
        self.requests[path] = request
        try:
            await self.go.setdefault(path, trio.Event()).wait()
        except trio.Cancelled:
            self.cancelled.append(path)
            raise
        return self.answers.pop(path, None) or Response(OK, BytesBody(path.encode()))

    def name_of(self, request: Request) -> str:
        """What a test calls the request."""
        return request.head.path

    def answer(self, path: str, body: Body | bytes = b"", head: ResponseHead = OK) -> None:
        """Let the request for ``path`` be answered."""
        self.answers[path] = Response(head, BytesBody(body) if isinstance(body, bytes) else body)
        self.go.setdefault(path, trio.Event()).set()

    async def asked(self, path: str) -> Request:
        """Wait for a request."""
        with trio.fail_after(PATIENCE):
            while path not in self.requests:
                await trio.lowlevel.checkpoint()
        return self.requests[path]


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait until ``holds``."""
    with trio.fail_after(PATIENCE):
        while not holds():
            await trio.lowlevel.checkpoint()


def body_of(peer: Http2Peer, stream_id: int) -> bytes:
    """Return what a client has of an answer."""
    message = peer.messages.get(stream_id)
    return b"" if message is None else message.body


async def taken(body: Body) -> bytes | Trailers:
    with trio.fail_after(PATIENCE):
        return await body.receive()


@attrs.define(eq=False)
class Served:
    """One driver, as in a process of its own."""

    driver: Multiplexed
    chain: FilterChain
    ended: trio.Event = attrs.field(factory=trio.Event)

    @property
    def stats(self) -> DownstreamStats:
        return self.chain.stats


@attrs.define(eq=False)
class Moves:
    """A connection, and all drivers that it has had."""

    plugin: CodecPlugin
    raw: trio.abc.Stream
    nursery: trio.Nursery
    poller: Poller
    handler: Handler
    timeouts: TimeoutsConfig
    max_streams: int = 100
    max_outbox_bytes: int = MIB
    timers: Timers = attrs.field(factory=Timers)
    drivers: list[Served] = attrs.field(factory=list)

    @property
    def now(self) -> Served:
        """Who has the connection."""
        return self.drivers[-1]

    @property
    def driver(self) -> Multiplexed:
        return self.now.driver

    def serve(self, stream: ByteStream, codec: Codec, moment: Moment | None = None) -> None:
        """Let another driver go on."""
        service = Service(self.handler, self.timeouts, self.max_outbox_bytes, self.max_streams, MIB)
        chain = FilterChain("test", service, DownstreamStats())
        facts = facts_of(self.plugin.name, self.plugin.traits)
        stream.half_close = self.plugin.traits.half_close
        driver = Multiplexed(
            stream,
            codec,
            Role.SERVER,
            facts,
            chain,
            self.timers,
            max_outbox_bytes=self.max_outbox_bytes,
            moment=moment,
        )
        served = Served(driver, chain)

        async def run() -> None:
            await driver.run(b"")
            served.ended.set()

        self.drivers.append(served)
        self.nursery.start_soon(run)

    async def stands(self, *wanted: Standing) -> None:
        """Wait until the connection stands as it is wanted."""
        with trio.fail_after(PATIENCE):
            while self.driver.standing not in wanted:
                await trio.lowlevel.checkpoint()

    async def move(self) -> Served:
        """Let another driver have it; return the one that had it."""
        await self.stands(Standing.IDLE, Standing.RELAY)
        return self.take(self.driver.freeze())

    def take(self, moment: Moment) -> Served:
        """Go on with what was frozen, in another driver."""
        before = self.now
        copy = attrs.evolve(
            moment,
            sock=_copy(moment.sock),
            link=_copy(moment.link),
            links=tuple(attrs.evolve(link, sock=_copy(link.sock)) for link in moment.links),
        )
        before.driver.leave()
        assert copy.sock is not None
        stream: ByteStream = self.poller.add(copy.sock, HERE, THERE)
        if copy.parts.stream:
            stream = resume(stream, copy.parts.stream)
        assert isinstance(self.plugin, RestoringPlugin)
        codec = self.plugin.restore(copy.parts.codec, Role.SERVER, DEFAULT_LIMITS)
        self.serve(stream, codec, attrs.evolve(copy, sock=None))
        return before

    async def over(self, served: Served) -> None:
        """Wait for the end of a driver."""
        with trio.fail_after(PATIENCE):
            await served.ended.wait()

    async def over_streams(self, served: Served, left: int) -> None:
        """Wait until no more than so many streams of a driver are in flight."""
        with trio.fail_after(PATIENCE):
            while served.driver.streams > left:
                await trio.lowlevel.checkpoint()


def _copy(sock: socket.socket | None) -> socket.socket | None:
    return None if sock is None else sock.dup()


@asynccontextmanager
async def moves(
    plugin: CodecPlugin,
    handler: Handler,
    *,
    kind: str = "polled-tcp",
    max_streams: int = 100,
    max_outbox_bytes: int = MIB,
    **seconds: float,
) -> AsyncIterator[Moves]:
    """Serve a client's connection; what is left in the end is cancelled."""
    timeouts = TimeoutsConfig(**{name: Duration(value) for name, value in seconds.items()})
    async with (
        polling() as poller,
        connected(kind) as (stream, peer),
        trio.open_nursery() as nursery,
    ):
        scene = Moves(
            plugin, peer, nursery, poller, handler, timeouts, max_streams, max_outbox_bytes
        )
        nursery.start_soon(scene.timers.run)
        scene.serve(stream, plugin.open(Role.SERVER, DEFAULT_LIMITS))
        yield scene
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def http2(
    handler: Handler, *, reads: bool = True, kind: str = "polled-tcp", **more: float
) -> AsyncIterator[tuple[Moves, Http2Peer]]:
    """Serve a client of HTTP/2."""
    async with moves(HTTP2, handler, kind=kind, **more) as scene:  # type: ignore[arg-type]  # seconds
        peer = Http2Peer(scene.raw, client=True, reads=reads)  # type: ignore[arg-type]  # a stream
        await peer.flush()
        yield scene, peer
        await wait_all_tasks_blocked(0.01)


@attrs.define(eq=False)
class Client:
    """A client of HTTP/2 by our own codec, which reads on after a goodbye."""

    stream: trio.abc.Stream
    codec: Codec
    frames: list[Frame] = attrs.field(factory=list)

    async def send(self, *frames: Frame) -> None:
        await self.stream.send_all(b"".join(self.codec.send(frame) for frame in frames))

    async def ask(self, stream_id: int, path: str, *, ends: bool = True) -> None:
        target = Target(path=path, version="2")
        method = "GET" if ends else "POST"
        head = RequestHead(service="a.example", method=method, extra=target)
        await self.send(Head(stream_id, head, b"", ends))

    async def until(self, kind: type[F], stream_id: int | None = None) -> F:
        """Read until there is such a frame, and return it."""
        with trio.fail_after(PATIENCE):
            while True:
                for frame in self.frames:
                    if isinstance(frame, kind) and stream_id in (
                        None,
                        getattr(frame, "stream_id", None),
                    ):
                        self.frames.remove(frame)
                        return frame
                data = bytes(await self.stream.receive_some())
                assert data, f"the end came after {self.frames}"
                for frame in self.codec.receive(data):
                    self.frames.append(frame)
                    if isinstance(frame, Reply):
                        await self.stream.send_all(frame.data)


@asynccontextmanager
async def plain(handler: Handler, **more: float) -> AsyncIterator[tuple[Moves, Client]]:
    """Serve a client that reads on after a goodbye."""
    async with moves(HTTP2, handler, **more) as scene:  # type: ignore[arg-type]  # seconds
        codec = HTTP2.open(Role.CLIENT, DEFAULT_LIMITS)
        client = Client(scene.raw, codec)
        for frame in codec.receive(b""):
            assert isinstance(frame, Reply)
            await scene.raw.send_all(frame.data)
        yield scene, client
