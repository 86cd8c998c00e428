"""A connection over real sockets that is served, frozen, and gone on with by another driver."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from tests.transport.ends import HERE, THERE, Peer, connected, polling
from xproxy.codecs.api import Codec, CodecPlugin, RestoringPlugin
from xproxy.config.schema import TimeoutsConfig
from xproxy.connection.serial.downstream import SerialDownstream
from xproxy.connection.service import DownstreamStats, FilterChain, Service
from xproxy.connection.shared.multiplexed import Multiplexed
from xproxy.connection.standing import Moment, Standing
from xproxy.model.limits import DEFAULT_LIMITS, MIB, Duration
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role, Sharing
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Request, Response
from xproxy.testing.proxy import facts_of
from xproxy.transport.poller import Poller
from xproxy.transport.stream import ByteStream
from xproxy.transport.timers import Timers
from xproxy.transport.tls.stream import resume

GET = b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n"


def ask(number: int) -> bytes:
    return b"~q %d s m 0 -\n" % number


class Handler:
    """Answers with the number of the request; lets those wait that come while it is shut."""

    def __init__(self) -> None:
        self.count = 0
        self.open = trio.Event()
        self.open.set()

    async def __call__(self, request: Request) -> Response:
        self.count += 1
        body = BytesBody(b"<%d>" % self.count)
        await self.open.wait()
        return Response(ResponseHead(status=Status.OK), body)


@attrs.define(eq=False)
class Scene:
    """A connection that is served, by another driver from some moment on."""

    plugin: CodecPlugin
    peer: Peer
    nursery: trio.Nursery
    poller: Poller
    chain: FilterChain
    handler: Handler
    timers: Timers = attrs.field(factory=Timers)
    driver: SerialDownstream | Multiplexed = attrs.field(init=False)
    ended: trio.Event = attrs.field(init=False)
    got: bytes = b""

    def serve(self, stream: ByteStream, codec: Codec, moment: Moment | None = None) -> None:
        traits = self.plugin.traits
        kind = SerialDownstream if traits.sharing is Sharing.SERIAL else Multiplexed
        facts = facts_of(self.plugin.name, traits)
        if kind is SerialDownstream:
            driver: SerialDownstream | Multiplexed = SerialDownstream(
                stream, codec, facts, self.chain, self.timers, moment=moment
            )
        else:
            driver = Multiplexed(
                stream, codec, Role.SERVER, facts, self.chain, self.timers, moment=moment
            )
        ended = trio.Event()

        async def run() -> None:
            await driver.run(b"")
            ended.set()

        self.driver, self.ended = driver, ended
        self.nursery.start_soon(run)

    async def freeze(self) -> Moment:
        with trio.fail_after(5):
            while self.driver.standing is Standing.NOT_NOW:
                await trio.lowlevel.checkpoint()
        moment = self.driver.freeze()
        with pytest.raises(trio.ClosedResourceError):
            self.driver.wire.stream.write_now(b"x")
        return moment

    async def move(self, moment: Moment) -> None:
        """Let another driver, codec and stream go on."""
        assert moment.sock is not None
        assert isinstance(self.plugin, RestoringPlugin)
        sock = moment.sock.dup()
        self.driver.leave()
        with trio.fail_after(5):
            await self.ended.wait()
        stream: ByteStream = self.poller.add(sock, HERE, THERE)
        if moment.parts.stream:
            stream = resume(stream, moment.parts.stream)
        codec = self.plugin.restore(moment.parts.codec, Role.SERVER, DEFAULT_LIMITS)
        self.serve(stream, codec, moment)

    async def expect(self, wanted: bytes) -> None:
        """Read until ``wanted`` has come."""
        with trio.fail_after(10):
            while wanted not in self.got:
                piece = await self.peer.receive_some()
                assert piece, f"the connection ended after {self.got!r}"
                self.got += piece
        self.got = self.got.partition(wanted)[2]


@asynccontextmanager
async def served(
    plugin: CodecPlugin, kind: str = "polled-tcp", **seconds: float
) -> AsyncIterator[Scene]:
    timeouts = TimeoutsConfig(**{name: Duration(value) for name, value in seconds.items()})
    handler = Handler()
    chain = FilterChain("test", Service(handler, timeouts, MIB, 100, MIB), DownstreamStats())
    async with (
        polling() as poller,
        connected(kind) as (stream, peer),
        trio.open_nursery() as nursery,
    ):
        scene = Scene(plugin, peer, nursery, poller, chain, handler)
        nursery.start_soon(scene.timers.run)
        scene.serve(stream, plugin.open(Role.SERVER, DEFAULT_LIMITS))
        yield scene
        nursery.cancel_scope.cancel()


class Giver:
    """Freezes a connection as soon as it can be."""

    def __init__(self, scene: Scene, after: int = 0) -> None:
        """``after``: so many requests."""
        self.scene = scene
        self.after = after
        self.moment: Moment | None = None
        self.found = trio.Event()
        self.asked = 0
        self.willing = True

    def __call__(self) -> bool:
        self.asked += 1
        if not self.willing or self.scene.handler.count < self.after:
            return False
        assert self.scene.driver.standing is Standing.IDLE
        self.moment = self.scene.driver.freeze()
        self.willing = False
        self.found.set()
        return True
