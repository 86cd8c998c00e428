"""Frames of a serial connection on demand, bodies made of them, and the way round both."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.connection.kit import memory_stream
from tests.transport.ends import HERE, THERE, polling, reset, tcp_pair, trio_stream_of
from xproxy.codecs.opaque.plugin import PLUGIN as OPAQUE
from xproxy.config.schema import TimeoutsConfig
from xproxy.connection.serial.downstream import SerialDownstream
from xproxy.connection.serial.pull import BYPASS_AFTER, FramePuller, PulledBody
from xproxy.connection.serial.upstream import SerialUpstream
from xproxy.connection.service import DownstreamStats, Port, Service
from xproxy.model.errors import RequestBroken
from xproxy.model.frames import (
    Credit,
    Data,
    Frame,
    GoAway,
    Head,
    Reply,
    Reset,
    Trailers,
    Violation,
)
from xproxy.model.headers import NO_HEADERS
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.stream.exchange import Request, Response
from xproxy.testing.proxy import End, facts_of
from xproxy.transport.timers import Timers
from xproxy.transport.trio_stream import TrioStream

HEAD = Head(1, RequestHead(service="s", method="m"))
END = Data(1, b"", True)


@attrs.define(eq=False)
class Scripted:
    """A codec that gives the same frames whatever comes: those of the n-th read at the n-th read."""

    reads: list[Sequence[Frame]]
    at_end: Sequence[Frame] = ()

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        return self.at_end if data is None else self.reads.pop(0)

    def send(self, frame: Frame) -> bytes:
        raise NotImplementedError


@contextlib.asynccontextmanager
async def pulling(
    *reads: Sequence[Frame], at_end: Sequence[Frame] = ()
) -> AsyncIterator[tuple[FramePuller, End]]:
    async with memory_stream() as (stream, peer):
        yield FramePuller(stream, Scripted(list(reads), at_end)), peer


async def test_frames_come_in_order_and_only_when_wanted(autojump_clock: MockClock) -> None:
    async with pulling([HEAD, Data(1, b"a")], [], [END]) as (side, peer):
        await peer.send(b"1")
        assert await side.pull() is HEAD
        assert await side.pull() == Data(1, b"a")
        async with trio.open_nursery() as nursery:
            got: list[Frame | None] = []

            async def pull() -> None:
                got.append(await side.pull())

            nursery.start_soon(pull)
            for byte in (b"2", b"3"):  # the second read brings nothing
                await wait_all_tasks_blocked()
                assert got == []
                await peer.send(byte)
        assert got == [END]


async def test_the_end_of_the_input_is_none_for_ever(autojump_clock: MockClock) -> None:
    async with pulling(at_end=[END]) as (side, peer):
        await peer.send_eof()
        assert await side.pull() is END
        assert side.ended
        assert await side.pull() is None
        assert await side.pull() is None


async def test_what_the_codec_owes_is_written_and_notices_are_noted(
    autojump_clock: MockClock,
) -> None:
    violation = Violation("wrong")
    async with pulling([Reply(b"pong"), GoAway(), Credit(), violation]) as (side, peer):
        await peer.send(b"x")
        assert await side.pull() == Credit()
        await peer.expect(b"pong")
        assert side.closing
        assert side.violation is None
        assert await side.pull() is violation
        assert side.violation is violation


async def test_a_cancelled_pull_loses_nothing(autojump_clock: MockClock) -> None:
    async with pulling([HEAD]) as (side, peer):
        with trio.move_on_after(1):
            await side.pull()
        await peer.send(b"x")
        assert await side.pull() is HEAD


async def read_on(body: PulledBody) -> list[bytes | Trailers]:
    got = []
    with contextlib.suppress(trio.EndOfChannel):
        while True:
            got.append(await body.receive())
    return got


async def test_a_body_is_its_pieces_without_the_empty_ones(autojump_clock: MockClock) -> None:
    async with pulling([Data(1, b"b"), Data(1, b""), Data(1, b"c", True)]) as (side, peer):
        body = PulledBody(side, b"a")
        await peer.send(b"x")
        assert await read_on(body) == [b"a", b"b", b"c"]
        assert body.finished
        assert await read_on(body) == []  # and reads nothing of the next message


async def test_trailers_end_a_body(autojump_clock: MockClock) -> None:
    trailers = Trailers(1, NO_HEADERS)
    async with pulling([Data(1, b"a"), trailers]) as (side, peer):
        body = PulledBody(side, b"")
        await peer.send(b"x")
        assert await read_on(body) == [b"a", trailers]
        assert body.finished


@pytest.mark.parametrize("last", [Violation("wrong"), Reset(1, Status.CANCELLED)])
async def test_a_body_that_breaks_off_is_broken(last: Frame, autojump_clock: MockClock) -> None:
    async with pulling([Data(1, b"a"), last]) as (side, peer):
        body = PulledBody(side, b"")
        await peer.send(b"x")
        assert await body.receive() == b"a"
        with pytest.raises(RequestBroken):
            await body.receive()
        assert not body.finished


async def test_a_body_whose_connection_ends_is_broken(autojump_clock: MockClock) -> None:
    async with pulling([Data(1, b"a")]) as (side, peer):
        body = PulledBody(side, b"")
        await peer.send(b"x")
        assert await body.receive() == b"a"
        await peer.send_eof()
        with pytest.raises(RequestBroken, match="ended in the middle"):
            await body.receive()


async def test_a_body_whose_connection_breaks_is_broken(autojump_clock: MockClock) -> None:
    async with pulling() as (side, _):
        body = PulledBody(side, b"")
        side.stream.close()
        with pytest.raises(RequestBroken, match="closed"):
            await body.receive()


async def test_memory_streams_have_no_way_round(autojump_clock: MockClock) -> None:
    async with pulling([HEAD]) as (side, _):
        assert isinstance(side.stream, TrioStream)
        await PulledBody(side, b"").bypass(side, 1, lambda _: None)  # does nothing, at once


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
            Port("test", service, stats),
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
