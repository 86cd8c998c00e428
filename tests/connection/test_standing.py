"""A connection that is frozen, and goes on: where it was, or with another driver that was made of what it gave."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transport.ends import HERE, THERE, Peer, connected, polling
from xproxy.codecs.api import Codec, CodecPlugin, RestoringPlugin
from xproxy.codecs.http1.plugin import PLUGIN as HTTP1
from xproxy.codecs.http2.plugin import PLUGIN as HTTP2
from xproxy.codecs.http2.wire import END_HEADERS, END_STREAM, HEADERS, PREFACE, frame, settings
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
from xproxy.testing.fakes import LINES
from xproxy.testing.proxy import facts_of
from xproxy.transport.poller import Poller
from xproxy.transport.stream import ByteStream
from xproxy.transport.timers import Timers
from xproxy.transport.tls.stream import resume

SOCKETS = pytest.mark.parametrize("kind", ["polled-tcp", "tls-resumed"])
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


@SOCKETS
async def test_a_serial_connection_goes_on_elsewhere_amid_a_head(kind: str) -> None:
    async with served(HTTP1, kind) as scene:
        await scene.peer.send_all(GET % 1)
        await scene.expect(b"<1>")
        for number in range(2, 6):
            await scene.peer.send_all((GET % number)[:9])
            await wait_all_tasks_blocked(0.01)
            moment = await scene.freeze()
            assert moment.half
            assert 0 < moment.left <= scene.chain.service.timeouts.head
            await scene.peer.send_all((GET % number)[9:])
            if number % 2:
                scene.driver.thaw()
            else:
                await scene.move(moment)
            await scene.expect(b"<%d>" % number)


@SOCKETS
@pytest.mark.parametrize("plugin", [LINES])
async def test_a_shared_connection_goes_on_elsewhere_amid_a_message(
    plugin: CodecPlugin, kind: str
) -> None:
    async with served(plugin, kind) as scene:
        await scene.peer.send_all(ask(1))
        await scene.expect(b"<1>")
        for number in range(2, 6):
            await scene.peer.send_all(ask(number)[:4])
            await wait_all_tasks_blocked(0.01)
            moment = await scene.freeze()
            assert moment.half
            await scene.peer.send_all(ask(number)[4:])
            if number % 2:
                scene.driver.thaw()
            else:
                await scene.move(moment)
            await scene.expect(b"<%d>" % number)


async def test_what_has_not_been_acknowledged_has_the_time_that_was_left() -> None:
    request = frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x82\x86\x84\x41\x01a")
    async with served(HTTP2) as scene:
        await scene.peer.send_all(PREFACE + settings(()) + request)
        await scene.expect(b"<1>")
        moment = await scene.freeze()
        assert 0 < moment.patience <= 10
        await scene.move(attrs.evolve(moment, patience=0.05))
        await scene.expect(b"settings not acknowledged")


async def test_a_client_that_is_late_is_late_after_a_move() -> None:
    async with served(HTTP1) as scene:
        await scene.peer.send_all(b"GET ")
        await wait_all_tasks_blocked(0.01)
        moment = await scene.freeze()
        await scene.move(attrs.evolve(moment, left=0.05))
        await scene.expect(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("plugin", [HTTP1, LINES])
async def test_an_idle_client_has_the_time_that_was_left(plugin: CodecPlugin) -> None:
    async with served(plugin) as scene:
        await scene.peer.send_all(GET % 1 if plugin is HTTP1 else ask(1))
        await scene.expect(b"<1>")
        moment = await scene.freeze()
        assert not moment.half
        assert 0 < moment.left <= scene.chain.service.timeouts.idle
        await scene.move(attrs.evolve(moment, left=0.05))
        with trio.fail_after(5):
            await scene.ended.wait()
        assert scene.chain.stats.downstream_cx_idle_timeout == 1


@pytest.mark.parametrize("plugin", [HTTP1, LINES])
async def test_a_frozen_one_has_no_time(plugin: CodecPlugin, mock_clock: MockClock) -> None:
    mock_clock.rate = 0.1  # a busy machine makes nothing late
    async with served(plugin, idle=8, linger=0.01) as scene:
        await scene.peer.send_all(GET % 1 if plugin is HTTP1 else ask(1))
        await scene.expect(b"<1>")
        await scene.freeze()
        mock_clock.jump(10)
        await wait_all_tasks_blocked(0.01)
        assert not scene.ended.is_set()
        scene.driver.thaw()
        mock_clock.jump(10)
        with trio.fail_after(5):
            await scene.ended.wait()


@pytest.mark.parametrize("plugin", [HTTP1, LINES])
async def test_what_had_not_gone_goes_first(plugin: CodecPlugin) -> None:
    async with served(plugin) as scene:
        await scene.peer.send_all(GET % 1 if plugin is HTTP1 else ask(1))
        await scene.expect(b"<1>")
        moment = await scene.freeze()
        parts = attrs.evolve(moment.parts, unsent=b"<the rest>")
        await scene.peer.send_all(GET % 2 if plugin is HTTP1 else ask(2))
        await scene.move(attrs.evolve(moment, parts=parts))
        await scene.expect(b"<the rest>")
        await scene.expect(b"<2>")


@pytest.mark.parametrize("plugin", [HTTP1, LINES])
async def test_what_is_in_flight_and_what_is_ending_is_said(plugin: CodecPlugin) -> None:
    async with served(plugin, linger=5) as scene:
        scene.handler.open = trio.Event()
        await scene.peer.send_all(GET % 1 if plugin is HTTP1 else ask(1))
        with trio.fail_after(5):
            while not scene.handler.count:
                await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked(0.01)
        standing = [scene.driver.standing]
        scene.handler.open.set()
        await scene.expect(b"<1>")
        scene.driver.drain()
        standing.append(scene.driver.standing)
        assert standing == [Standing.BUSY, Standing.NEVER]


@SOCKETS
async def test_what_is_put_as_it_freezes_is_written_down_and_goes_on(kind: str) -> None:
    async with served(LINES, kind) as scene:
        scene.handler.open = trio.Event()
        await scene.peer.send_all(ask(1))
        with trio.fail_after(5):
            while not scene.handler.count:
                await trio.lowlevel.checkpoint()
            scene.handler.open.set()
            while scene.driver.standing is not Standing.IDLE:
                await trio.lowlevel.checkpoint()
        moment = scene.driver.freeze()
        await wait_all_tasks_blocked(0.01)
        assert scene.driver.wire.unsent() == moment.parts.unsent
        scene.driver.thaw()
        await scene.expect(b"<1>")
        await scene.peer.send_all(ask(2))
        await scene.expect(b"<2>")
        scene.driver.wire.outbox.put(b"<put>")  # type: ignore[union-attr]  # a shared one
        await scene.move(scene.driver.freeze())
        await scene.expect(b"<put>")


@SOCKETS
@pytest.mark.parametrize("plugin", [HTTP1, LINES])
async def test_nothing_ends_a_connection_that_stands_still(plugin: CodecPlugin, kind: str) -> None:
    async with served(plugin, kind, linger=0.05) as scene:
        for number in range(1, 3):
            await scene.peer.send_all(GET % number if plugin is HTTP1 else ask(number))
            await scene.expect(b"<%d>" % number)
            moment = await scene.freeze()
            scene.driver.relieve()
            assert scene.driver.idle_since is None
            if number == 1:
                await scene.move(moment)
        scene.driver.drain()
        await wait_all_tasks_blocked(0.1)
        assert not scene.ended.is_set()
        scene.driver.thaw()
        with trio.fail_after(5):
            await scene.ended.wait()


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


@SOCKETS
@pytest.mark.parametrize("stays", [True, False])
async def test_a_client_that_pipelines_without_a_pause_moves_between_two_requests(
    kind: str, stays: bool
) -> None:
    async with served(HTTP1, kind) as scene:
        giver = Giver(scene, after=5)
        assert isinstance(scene.driver, SerialDownstream)
        scene.driver.seek(giver)
        await scene.peer.send_all(b"".join(GET % number for number in range(1, 31)))
        with trio.fail_after(5):
            await giver.found.wait()
        served_before = scene.handler.count
        assert served_before == 5
        assert scene.driver.standing is Standing.NOT_NOW
        await wait_all_tasks_blocked(0.01)
        assert scene.handler.count == served_before, "a request began on a frozen connection"
        moment = giver.moment
        assert moment is not None
        assert b"GET /30 " in moment.parts.codec
        if stays:
            scene.driver.thaw()
        else:
            await scene.move(moment)
        for number in range(1, 31):
            await scene.expect(b"<%d>" % number)


async def test_who_does_not_want_it_lets_it_go_on_and_is_asked_until_nobody_asks() -> None:
    async with served(HTTP1) as scene:
        giver = Giver(scene)
        giver.willing = False
        assert isinstance(scene.driver, SerialDownstream)
        scene.driver.seek(giver)
        await scene.peer.send_all(b"".join(GET % number for number in range(1, 4)))
        await scene.expect(b"<3>")
        await wait_all_tasks_blocked(0.01)
        asked = giver.asked
        assert asked >= 3
        scene.driver.seek(None)
        await scene.peer.send_all(GET % 4)
        await scene.expect(b"<4>")
        assert giver.asked == asked
        assert scene.driver.standing is Standing.IDLE


async def test_a_busy_one_is_found_when_its_stream_has_ended() -> None:
    async with served(HTTP1) as scene:
        scene.handler.open = trio.Event()
        await scene.peer.send_all(GET % 1)
        with trio.fail_after(5):
            while scene.driver.standing is not Standing.BUSY:
                await trio.lowlevel.checkpoint()
        giver = Giver(scene)
        assert isinstance(scene.driver, SerialDownstream)
        scene.driver.seek(giver)
        await wait_all_tasks_blocked(0.01)
        assert not giver.asked
        scene.handler.open.set()
        with trio.fail_after(5):
            await giver.found.wait()
        assert giver.moment is not None
        await scene.expect(b"<1>")
        await scene.move(giver.moment)
        await scene.peer.send_all(GET % 2)
        await scene.expect(b"<2>")


async def test_one_that_is_drained_between_two_requests_serves_what_it_holds_and_ends() -> None:
    async with served(HTTP1, linger=0.05) as scene:
        giver = Giver(scene, after=1)
        assert isinstance(scene.driver, SerialDownstream)
        scene.driver.seek(giver)
        await scene.peer.send_all(GET % 1 + GET % 2)
        with trio.fail_after(5):
            await giver.found.wait()
        scene.driver.drain()
        scene.driver.relieve()
        scene.driver.thaw()
        await scene.expect(b"<2>")
        with trio.fail_after(5):
            await scene.ended.wait()


async def test_one_that_stands_still_between_two_requests_can_be_cut_off() -> None:
    async with served(HTTP1) as scene:
        giver = Giver(scene, after=1)
        assert isinstance(scene.driver, SerialDownstream)
        scene.driver.seek(giver)
        await scene.peer.send_all(GET % 1 + GET % 2)
        with trio.fail_after(5):
            await giver.found.wait()
        scene.driver.shed()
        scene.driver.thaw()
        with trio.fail_after(5):
            await scene.ended.wait()
        assert scene.handler.count == 1


async def test_time_for_a_head_that_had_begun_goes_along_before_it_is_watched() -> None:
    async with served(HTTP1, head=10) as scene:
        driver = scene.driver
        assert isinstance(driver, SerialDownstream)
        driver._waited, driver._half_finished, driver._between = 4.0, True, True
        assert 5.9 < driver.freeze().left <= 6.0
        driver.thaw()
