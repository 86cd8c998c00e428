"""A connection that is frozen, and goes on: where it was, or with another driver that was made of what it gave."""

from __future__ import annotations

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.connection.scene import GET, ask, served
from xproxy.codecs.api import CodecPlugin
from xproxy.codecs.http1.plugin import PLUGIN as HTTP1
from xproxy.codecs.http2.plugin import PLUGIN as HTTP2
from xproxy.codecs.http2.wire import END_HEADERS, END_STREAM, HEADERS, PREFACE, frame, settings
from xproxy.connection.standing import Standing
from xproxy.testing.fakes import LINES

SOCKETS = pytest.mark.parametrize("kind", ["polled-tcp", "tls-resumed"])


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
