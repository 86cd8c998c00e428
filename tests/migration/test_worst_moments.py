"""Peers and owners of a serial connection do everything while it stands still: it goes on, there or here, or ends."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.live import eventually
from tests.migration.cuts import NEVER, Client, Run, Scenario
from tests.migration.test_any_order import origin
from tests.migration.test_cuts import GET, POST
from tests.transport.ends import HERE, THERE, polling, tcp_pair, trio_stream_of
from tests.transport.tls.kit import NAME, SslPeer, client_context, server_tls
from xproxy.config.schema import TimeoutsConfig
from xproxy.connection.serial.downstream import SerialDownstream
from xproxy.connection.service import Service
from xproxy.connection.standing import Moment, Standing
from xproxy.model.limits import KIB, MIB, Duration
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Request, Response
from xproxy.transport.stream import ByteStream
from xproxy.transport.tls.server import accept

WAYS: Final = pytest.mark.parametrize("way", ["thaw", "move"])
SECURED: Final = pytest.mark.parametrize("secured", [False, True], ids=["plain", "tls"])


@attrs.define(eq=False)
class Scene:
    """A client, and the proxy's side of its connection."""

    run: Run
    client: Client
    raw: trio.SocketStream
    nursery: trio.Nursery
    moment: Moment | None = None

    async def freeze(self) -> None:
        await eventually(lambda: self.run.driver.standing is Standing.IDLE, "it waits", within=10)
        self.moment = self.run.driver.freeze()

    async def go_on(self, way: str) -> None:
        moment, self.moment = self.moment, None
        assert moment is not None
        if way == "thaw":
            self.run.driver.thaw()
        else:
            await self.run.move(moment)

    async def ended(self) -> None:
        with trio.fail_after(10):
            await self.run.ended.wait()

    def reset(self) -> None:
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.raw.socket.close()


@asynccontextmanager
async def served(*, secured: bool = False, **seconds: float) -> AsyncIterator[Scene]:
    """Serve a client over TCP with small buffers, until its first request has been answered."""
    timeouts = TimeoutsConfig(**{name: Duration(value) for name, value in seconds.items()})
    async with polling() as poller, trio.open_nursery() as nursery:
        run = Run(Scenario(_no_script, origin, timeouts=timeouts), NEVER, poller, nursery)
        nursery.start_soon(run.timers.run)
        ours, theirs = tcp_pair()
        raw = trio_stream_of(theirs)
        stream: ByteStream = poller.add(ours, HERE, THERE)
        peer: trio.abc.HalfCloseableStream = raw
        if secured:
            peer = made = SslPeer(raw, client_context(), server_name=NAME)
            nursery.start_soon(made.handshake)
            stream = await accept(stream, b"", server_tls())
        client = Client(peer)
        run.serve(stream)
        await client.send(GET % 1)
        await client.until(b"</1>")
        try:
            yield Scene(run, client, raw, nursery)
        finally:
            raw.socket.close()
            for connection in run.idle:
                connection.close()
            nursery.cancel_scope.cancel()


async def _no_script(_client: Client) -> None:
    raise NotImplementedError


@WAYS
@SECURED
@pytest.mark.parametrize("first", [b"", b"GET /2"], ids=["idle", "half a head"])
@pytest.mark.parametrize("end", ["reset", "end", "request and end"])
async def test_a_client_that_leaves(way: str, secured: bool, first: bytes, end: str) -> None:
    async with served(secured=secured) as scene:
        if first:
            await scene.client.send(first)
            await wait_all_tasks_blocked()
        await scene.freeze()
        if end == "reset":
            scene.reset()
        else:
            if end == "request and end":
                await scene.client.send((GET % 2)[len(first) :])
            await scene.client.stream.send_eof()
        await wait_all_tasks_blocked()
        assert not scene.run.ended.is_set(), "it stands still"
        await scene.go_on(way)
        await scene.ended()
        assert scene.run.stats.downstream_rq_active == 0


@WAYS
@SECURED
async def test_64_kib_that_come_meanwhile_are_served(way: str, secured: bool) -> None:
    async with served(secured=secured) as scene:
        await scene.freeze()
        body = bytes(64 * KIB)
        data = POST % (2, b"content-length: %d\r\n" % len(body)) + body
        data += b"".join(GET % number for number in range(3, 1000))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.client.send, data)
            await wait_all_tasks_blocked()
            await scene.go_on(way)
            with trio.fail_after(20):
                await scene.client.until(b"</999>")
        [got] = scene.run.upstream
        assert got.count(b"/2 HTTP") == 1
        assert body in bytes(got)


@WAYS
async def test_a_client_that_reads_nothing_moves_once_it_does(way: str) -> None:
    async with served(write=60) as scene:
        driver = scene.run.driver
        assert isinstance(driver, SerialDownstream)
        big = bytes(256 * KIB)
        served_big = trio.Event()

        async def handler(_request: Request) -> Response:
            served_big.set()
            return Response(ResponseHead(status=Status.OK), BytesBody(big))

        scene.run.chain.service = Service(handler, TimeoutsConfig(), MIB, 100, MIB)
        await scene.client.send(GET % 2 + GET % 3)
        await served_big.wait()
        await wait_all_tasks_blocked()
        assert driver.standing is Standing.BUSY
        found = trio.Event()

        def freeze() -> bool:
            scene.moment = driver.freeze()
            found.set()
            return True

        driver.seek(freeze)
        await wait_all_tasks_blocked()
        assert not found.is_set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.client.until, b"HTTP/1.1 200", 3)
            with trio.fail_after(20):
                await found.wait()
            await scene.go_on(way)
        while scene.client.got.count(b"\0") < 2 * len(big):
            piece = await scene.client.stream.receive_some()
            assert piece
            scene.client.got += piece


@WAYS
@SECURED
async def test_drained_relieved_and_reloaded_it_goes_on(way: str, secured: bool) -> None:
    async with served(secured=secured, linger=0.2) as scene:
        await scene.freeze()
        driver = scene.run.driver
        driver.relieve()
        assert driver.idle_since is None
        driver.drain()
        old = scene.run.chain.service

        async def other(_request: Request) -> Response:
            return Response(ResponseHead(status=Status.OK), BytesBody(b"<reloaded>"))

        scene.run.chain.service = Service(other, old.timeouts, MIB, 100, MIB)
        await wait_all_tasks_blocked()
        await scene.client.send(GET % 2)
        await scene.go_on(way)
        await scene.client.until(b"<reloaded>")
        if way == "thaw":
            await scene.ended()  # the drain was this process's
            assert b"Connection: close\r\n" in scene.client.got
        else:
            await scene.client.send(GET % 3)
            await scene.client.until(b"<reloaded>", 2)


async def test_an_upstream_that_closes_a_connection_as_it_moves_fails_nobody() -> None:
    async with served() as scene:
        [idle] = scene.run.idle
        moment = idle.freeze()
        assert moment.sock is not None
        sock = moment.sock.dup()
        idle.leave()
        scene.run.idle.clear()
        # The origin's end, as it closes just now.
        sock.shutdown(socket.SHUT_RD)
        scene.run.adopt(sock, moment, idle.requests)
        await wait_all_tasks_blocked()
        [adopted] = scene.run.idle
        assert not adopted.reusable
        await scene.client.send(GET % 2)
        await scene.client.until(b"</2>")
        assert len(scene.run.upstream) == 2


@SECURED
async def test_a_process_that_ends_meanwhile_closes_its_copy_without_a_word(secured: bool) -> None:
    async with served(secured=secured) as scene:
        await scene.freeze()
        assert scene.moment is not None
        assert scene.moment.sock is not None
        with scene.moment.sock.dup() as kept:
            scene.run.driver.shed()
            await scene.ended()
            kept.setblocking(False)
            with trio.move_on_after(0.05) as scope:
                await scene.raw.receive_some()  # no end, and no close_notify
            assert scope.cancelled_caught
            await scene.raw.send_all(b"x")
            await wait_all_tasks_blocked()
            assert kept.recv(10) == b"x"


async def test_a_thaw_that_comes_too_late_or_twice_harms_nobody() -> None:
    async with served() as scene:
        await scene.freeze()
        scene.run.driver.thaw()
        scene.run.driver.thaw()
        await scene.client.send(GET % 2)
        await scene.client.until(b"</2>")
        await scene.freeze()
        scene.run.driver.shed()
        await scene.ended()
        scene.run.driver.thaw()


async def test_what_says_its_last_words_is_never_frozen() -> None:
    async with served(head=0.05, linger=5) as scene:
        await scene.client.send(b"GET ")
        await scene.client.until(b"408")
        await wait_all_tasks_blocked()
        assert scene.run.driver.standing is Standing.NEVER
