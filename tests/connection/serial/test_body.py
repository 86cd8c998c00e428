"""Frames of a serial connection on demand, bodies made of them, and the way round both."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Callable

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.connection.serial.pulled import HEAD, pulling
from tests.transport.ends import HERE, THERE, polling, reset, tcp_pair, trio_stream_of
from xproxy.codecs.opaque.plugin import PLUGIN as OPAQUE
from xproxy.config.schema import TimeoutsConfig
from xproxy.connection.serial.body import BYPASS_AFTER, PulledBody
from xproxy.connection.serial.downstream import SerialDownstream
from xproxy.connection.serial.upstream import SerialUpstream
from xproxy.connection.service import DownstreamStats, FilterChain, Service
from xproxy.model.errors import RequestBroken
from xproxy.model.frames import (
    Data,
    Frame,
    Reset,
    Trailers,
    Violation,
)
from xproxy.model.headers import NO_HEADERS
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.stream.exchange import Request, Response
from xproxy.testing.proxy import facts_of
from xproxy.transport.timers import Timers
from xproxy.transport.trio_stream import TrioStream


async def read_on(body: PulledBody) -> list[bytes | Trailers]:
    got = []
    with contextlib.suppress(trio.EndOfChannel):
        while True:
            got.append(await body.receive())
    return got


async def test_a_body_is_its_pieces_without_the_empty_ones(autojump_clock: MockClock) -> None:
    async with pulling([Data(1, b"b"), Data(1, b""), Data(1, b"c", True)]) as (wire, peer):
        body = PulledBody(wire, b"a")
        await peer.send(b"x")
        assert await read_on(body) == [b"a", b"b", b"c"]
        assert body.finished
        assert await read_on(body) == []  # and reads nothing of the next message


async def test_trailers_end_a_body(autojump_clock: MockClock) -> None:
    trailers = Trailers(1, NO_HEADERS)
    async with pulling([Data(1, b"a"), trailers]) as (wire, peer):
        body = PulledBody(wire, b"")
        await peer.send(b"x")
        assert await read_on(body) == [b"a", trailers]
        assert body.finished


@pytest.mark.parametrize("last", [Violation("wrong"), Reset(1, Status.CANCELLED)])
async def test_a_body_that_breaks_off_is_broken(last: Frame, autojump_clock: MockClock) -> None:
    async with pulling([Data(1, b"a"), last]) as (wire, peer):
        body = PulledBody(wire, b"")
        await peer.send(b"x")
        assert await body.receive() == b"a"
        with pytest.raises(RequestBroken):
            await body.receive()
        assert not body.finished


async def test_a_body_whose_connection_ends_is_broken(autojump_clock: MockClock) -> None:
    async with pulling([Data(1, b"a")]) as (wire, peer):
        body = PulledBody(wire, b"")
        await peer.send(b"x")
        assert await body.receive() == b"a"
        await peer.send_eof()
        with pytest.raises(RequestBroken, match="ended in the middle"):
            await body.receive()


async def test_a_body_whose_connection_breaks_is_broken(autojump_clock: MockClock) -> None:
    async with pulling() as (wire, _):
        body = PulledBody(wire, b"")
        wire.stream.close()
        with pytest.raises(RequestBroken, match="closed"):
            await body.receive()


async def test_memory_streams_have_no_way_round(autojump_clock: MockClock) -> None:
    async with pulling([HEAD]) as (wire, _):
        assert isinstance(wire.stream, TrioStream)
        await PulledBody(wire, b"").bypass(wire, 1, lambda _: None)  # does nothing, at once


# ---- bulk bytes on real sockets


@attrs.define(eq=False)
class Tunnel:
    client: trio.SocketStream
    server: trio.SocketStream
    stats: DownstreamStats
    requests: list[Request]
    upstream: SerialUpstream
    ended: trio.Event
    cut: Callable[[], None]


@contextlib.asynccontextmanager
async def tunnel() -> AsyncIterator[Tunnel]:
    """Relay L4 between two real connections with the drivers the proxy has."""
    async with polling() as poller:
        near, client = tcp_pair()
        far, server = tcp_pair()
        downstream = poller.add(near, THERE, HERE)
        stream = poller.add(far, THERE, HERE)
        downstream.half_close = stream.half_close = True
        codec = OPAQUE.open(Role.CLIENT, DEFAULT_LIMITS)
        upstream = SerialUpstream(stream, codec, OPAQUE.traits, THERE)
        requests: list[Request] = []

        async def handle(request: Request) -> Response:
            requests.append(request)
            return await upstream.exchange(request)

        service = Service(handle, TimeoutsConfig(), 1 << 20, 1, 1 << 20)
        stats = DownstreamStats()
        timers = Timers()
        driver = SerialDownstream(
            downstream,
            OPAQUE.open(Role.SERVER, DEFAULT_LIMITS),
            facts_of("opaque", OPAQUE.traits),
            FilterChain("test", service, stats),
            timers,
        )
        ended = trio.Event()

        scope = trio.CancelScope()

        async def drive() -> None:
            with scope:
                await driver.run(b"")
            ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(timers.run)
            nursery.start_soon(drive)
            made = Tunnel(
                trio_stream_of(client),
                trio_stream_of(server),
                stats,
                requests,
                upstream,
                ended,
                scope.cancel,
            )
            yield made
            nursery.cancel_scope.cancel()
        upstream.close()
        made.client.socket.close()
        made.server.socket.close()
        assert stats.downstream_rq_active == 0


async def send_all(stream: trio.SocketStream, data: bytes) -> None:
    await stream.send_all(data)
    await stream.send_eof()


async def receive_all(stream: trio.SocketStream, into: list[bytes]) -> None:
    while piece := await stream.receive_some(65536):
        into.append(piece)


BULK = bytes(range(256)) * 32 * 1024  # 8 MiB


async def test_bulk_bytes_arrive_whole_both_ways_at_once() -> None:
    async with tunnel() as t:
        up: list[bytes] = []
        down: list[bytes] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_all, t.client, BULK)
            nursery.start_soon(send_all, t.server, BULK[::-1])
            nursery.start_soon(receive_all, t.client, down)
            nursery.start_soon(receive_all, t.server, up)
        await t.ended.wait()
        assert b"".join(up) == BULK
        assert b"".join(down) == BULK[::-1]
        assert t.requests[0].record.received_bytes == t.requests[0].record.sent_bytes == len(BULK)
        assert t.stats.downstream_rq_reset == 0


@pytest.mark.parametrize("size", [10, 2 * BYPASS_AFTER])
async def test_an_upstream_that_is_reset_is_never_a_clean_end_for_the_client(size: int) -> None:
    async with tunnel() as t:
        got: list[bytes] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(t.server.send_all, bytes(size))
            while sum(map(len, got)) < size:
                got.append(await t.client.receive_some(65536))
        await wait_all_tasks_blocked(0.001)
        reset(t.server)
        with pytest.raises(trio.BrokenResourceError):
            await t.client.receive_some(1)
        await t.ended.wait()
        assert t.stats.downstream_rq_reset == 1


@pytest.mark.parametrize("size", [10, 2 * BYPASS_AFTER])
async def test_a_client_that_is_reset_is_never_a_clean_end_for_the_upstream(size: int) -> None:
    async with tunnel() as t:
        got: list[bytes] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(t.client.send_all, bytes(size))
            while sum(map(len, got)) < size:
                got.append(await t.server.receive_some(65536))
        await wait_all_tasks_blocked(0.001)
        reset(t.client)
        await t.ended.wait()
        t.upstream.close()  # as its lease would
        # A FIN would say: this was all.
        with contextlib.suppress(trio.BrokenResourceError):
            assert await t.server.receive_some(1) != b"", "a clean end"


async def test_a_client_that_is_reset_while_its_upstream_takes_nothing() -> None:
    async with tunnel() as t:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(t.client.send_all, BULK)
            await wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
        reset(t.client)
        await t.ended.wait()
        t.upstream.close()
        with pytest.raises(trio.BrokenResourceError):
            await receive_all(t.server, [])


async def test_a_tunnel_that_is_cut_off_is_no_clean_end() -> None:
    async with tunnel() as t:
        await t.server.send_all(b"half")
        assert await t.client.receive_some(10) == b"half"
        t.cut()
        await t.ended.wait()
        with pytest.raises(trio.BrokenResourceError):
            await t.client.receive_some(1)


async def test_half_close_after_bulk() -> None:
    async with tunnel() as t:
        down: list[bytes] = []
        up: list[bytes] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_all, t.server, BULK)
            nursery.start_soon(receive_all, t.client, down)
        assert b"".join(down) == BULK
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_all, t.client, b"thank you")
            nursery.start_soon(receive_all, t.server, up)
        assert b"".join(up) == b"thank you"
        await t.ended.wait()


def test_the_sockets_of_these_tests_are_small() -> None:
    # Or the kernel's buffers would take all of it, and nobody would ever have to wait.
    ours, theirs = tcp_pair()
    with ours, theirs:
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) < BYPASS_AFTER
