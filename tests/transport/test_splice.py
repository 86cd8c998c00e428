"""Socket to socket inside the kernel: everything arrives, and whoever breaks is named."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import AsyncIterator

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.transport.ends import HERE, THERE, polling, reset, tcp_pair, trio_stream_of
from xproxy.transport.poller import PolledSocket
from xproxy.transport.splice import SourceBroken, Splice

BULK = bytes(range(256)) * 16384  # 4 MiB


@attrs.define(eq=False)
class Relay:
    sender: trio.SocketStream
    source: PolledSocket
    sink: PolledSocket
    receiver: trio.SocketStream
    moved: list[int] = attrs.field(factory=list)
    kept: list[bytes] = attrs.field(factory=list)
    splice: Splice | None = None

    async def run(self, stall: float = 10) -> None:
        self.splice = Splice(stall, self.moved.append, self.kept.append)
        await self.splice.run(self.source, self.sink)


@contextlib.asynccontextmanager
async def relay() -> AsyncIterator[Relay]:
    async with polling() as poller:
        near, sender = tcp_pair()
        far, receiver = tcp_pair()
        made = Relay(
            trio_stream_of(sender),
            poller.add(near, THERE, HERE),
            poller.add(far, THERE, HERE),
            trio_stream_of(receiver),
        )
        try:
            yield made
        finally:
            for stream in (made.source, made.sink):
                stream.close()
            for peer in (made.sender, made.receiver):
                peer.socket.close()


async def receive_all(stream: trio.SocketStream) -> bytes:
    got = bytearray()
    while piece := await stream.receive_some(65536):
        got += piece
    return bytes(got)


async def test_everything_arrives_and_the_end_is_left_to_be_read() -> None:
    async with relay() as r:
        got: list[bytes] = []

        async def receive() -> None:
            got.append(await receive_all(r.receiver))

        async def send() -> None:
            await r.sender.send_all(BULK)
            await r.sender.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            nursery.start_soon(send)
            await r.run()
            assert await r.source.read() == b""
            r.sink.shutdown_write()
        assert got == [BULK]
        assert sum(r.moved) == len(BULK)


async def test_each_piece_goes_on_at_once() -> None:
    async with relay() as r, trio.open_nursery() as nursery:
        nursery.start_soon(r.run)
        for piece in (b"one", b"two"):
            await r.sender.send_all(piece)
            assert await r.receiver.receive_some(10) == piece
            await wait_all_tasks_blocked(0.001)
        assert r.moved == [3, 3]
        nursery.cancel_scope.cancel()


async def test_a_receiver_that_takes_nothing_stops_the_sender() -> None:
    async with relay() as r, trio.open_nursery() as nursery:
        nursery.start_soon(r.run)
        sent = trio.Event()

        async def send() -> None:
            await r.sender.send_all(bytes(64 * 1024 * 1024))
            sent.set()

        nursery.start_soon(send)
        await wait_all_tasks_blocked(0.02)
        assert not sent.is_set()
        nursery.cancel_scope.cancel()


async def test_a_receiver_that_takes_nothing_for_too_long_is_given_up() -> None:
    async with relay() as r, trio.open_nursery() as nursery:
        nursery.start_soon(r.sender.send_all, bytes(64 * 1024 * 1024))
        with pytest.raises(trio.BrokenResourceError, match=r"took nothing for 0\.05 s") as caught:
            await r.run(stall=0.05)
        assert not isinstance(caught.value, SourceBroken)
        nursery.cancel_scope.cancel()


async def test_a_sender_that_breaks_is_named() -> None:
    async with relay() as r, trio.open_nursery() as nursery:

        async def run() -> None:
            with pytest.raises(SourceBroken):
                await r.run()

        nursery.start_soon(run)
        await r.sender.send_all(b"half")
        assert await r.receiver.receive_some(10) == b"half"
        await wait_all_tasks_blocked()
        reset(r.sender)


async def test_a_source_closed_under_it_is_named() -> None:
    async with relay() as r, trio.open_nursery() as nursery:

        async def run() -> None:
            with pytest.raises(SourceBroken):
                await r.run()

        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        r.source.close()
        with pytest.raises(SourceBroken):
            await r.run()


async def test_a_receiver_that_breaks_is_not_taken_for_the_sender() -> None:
    async with relay() as r, trio.open_nursery() as nursery:
        reset(r.receiver)
        nursery.start_soon(r.sender.send_all, b"x" * 65536)
        with pytest.raises(trio.BrokenResourceError) as caught:
            await r.run()
        assert not isinstance(caught.value, SourceBroken)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("parked", ["source", "sink"])
async def test_cancelling_leaves_no_pipe_open(parked: str) -> None:
    async with relay() as r, trio.open_nursery() as nursery:
        before = len(os.listdir("/proc/self/fd"))
        nursery.start_soon(r.run)
        if parked == "sink":
            nursery.start_soon(r.sender.send_all, bytes(64 * 1024 * 1024))
        await wait_all_tasks_blocked(0.01)
        assert len(os.listdir("/proc/self/fd")) == before + 2
        nursery.cancel_scope.cancel()
    # The conftest looks for what is left.


async def test_without_a_descriptor_nothing_is_moved_and_nothing_lost() -> None:
    async with relay() as r:
        await r.sender.send_all(b"data")
        await wait_all_tasks_blocked(0.001)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            await r.run()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert r.moved == []
        assert await r.source.read() == b"data"


async def test_nothing_is_lost_where_it_is_cancelled() -> None:
    """What waits in the pipe comes between what has gone and what is still to be read."""
    async with relay() as r, trio.open_nursery() as nursery:

        async def send() -> None:
            await r.sender.send_all(BULK)
            await r.sender.send_eof()

        nursery.start_soon(send)
        async with trio.open_nursery() as moving:
            moving.start_soon(r.run)
            await wait_all_tasks_blocked(0.01)
            moving.cancel_scope.cancel()
        (kept,) = r.kept
        assert kept
        got = bytearray()
        while len(got) < sum(r.moved):
            got += await r.receiver.receive_some(sum(r.moved) - len(got))
        got += kept
        while piece := await r.source.read():
            got += piece
        assert got == BULK


async def test_what_is_in_the_pipe_of_a_stopped_one_is_kept() -> None:
    async with relay() as r, trio.open_nursery() as nursery:
        sent = 0

        async def send() -> None:
            nonlocal sent
            for start in range(0, len(BULK), 65536):
                sent = start
                await r.sender.send_all(BULK[start : start + 65536])

        nursery.start_soon(r.run)
        nursery.start_soon(send)
        await wait_all_tasks_blocked(0.05)
        assert r.splice is not None
        for end in (r.source, r.sink):
            end.suspend()
        r.splice.stop()
        [kept] = r.kept
        moved = sum(r.moved)
        got = b""
        while len(got) < moved:
            got += await r.receiver.receive_some(65536)
        await wait_all_tasks_blocked(0.05)
        assert got + kept == BULK[: moved + len(kept)]
        for end in (r.source, r.sink):
            end.resume()
        with trio.fail_after(5):  # it ends by itself, and takes nothing more
            while len(nursery.child_tasks) > 1:
                await trio.lowlevel.checkpoint()
        rest = b""
        while moved + len(kept) + len(rest) < len(BULK):
            rest += await r.source.read()
        assert got + kept + rest == BULK
        nursery.cancel_scope.cancel()


async def test_a_suspended_one_waits_and_goes_on() -> None:
    async with relay() as r, trio.open_nursery() as nursery:
        nursery.start_soon(r.run, 0.05)
        await r.sender.send_all(b"before")
        assert await r.receiver.receive_some() == b"before"
        for end in (r.source, r.sink):
            end.suspend()
        await r.sender.send_all(b"after")
        await wait_all_tasks_blocked(0.1)  # longer than the sink may take nothing
        for end in (r.source, r.sink):
            end.resume()
        assert await r.receiver.receive_some() == b"after"
        nursery.cancel_scope.cancel()
