"""Edge-triggered polling: no wake-up may be lost, none may reach the wrong socket."""

from __future__ import annotations

import os
import socket

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.transport.ends import HERE, THERE, polled, polling, tcp_pair, unix_pair
from xproxy.transport.poller import PolledSocket, Poller

SMALL = 16 * 1024


class CountingSocket(socket.socket):
    """Counts the system calls that read."""

    reads = 0

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        self.reads += 1
        return super().recv(bufsize, flags)


async def drain(peer: trio.SocketStream) -> None:
    while await peer.receive_some(100):
        pass


def counting_pair() -> tuple[CountingSocket, socket.socket]:
    ours, theirs = unix_pair()
    counting = CountingSocket(fileno=ours.detach())
    counting.setblocking(False)
    return counting, theirs


def queue(peer: trio.SocketStream, data: bytes) -> None:
    """Send without giving any task a chance to run."""
    os.write(peer.socket.fileno(), data)


async def test_a_short_read_costs_one_system_call() -> None:
    async with polled(counting_pair) as (stream, peer):
        sock = stream.sock
        assert isinstance(sock, CountingSocket)
        for count in range(1, 4):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.read)
                await wait_all_tasks_blocked()
                queue(peer, b"x")
            assert sock.reads == count


@pytest.mark.parametrize("size", [SMALL - 1, SMALL, SMALL + 1, 3 * SMALL])
async def test_no_wake_up_is_lost_round_the_size_of_a_read(size: int) -> None:
    async with polled(unix_pair) as (stream, peer):
        for _ in range(3):
            queue(peer, b"x" * size)
            got = 0
            while got < size:
                got += len(await stream.read())
            assert got == size
            # Nothing is left, so the next read parks; and wakes for what comes then.
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.read)
                await wait_all_tasks_blocked()
                assert not stream.pending
                queue(peer, b"y")


async def test_data_and_end_in_one_event_are_two_reads() -> None:
    async with polled(tcp_pair) as (stream, peer):
        queue(peer, b"x")
        peer.socket.close()
        assert await stream.read() == b"x"
        assert await stream.read() == b""


async def test_an_end_after_the_data_was_taken_wakes_the_reader() -> None:
    async with polled(tcp_pair) as (stream, peer), trio.open_nursery() as nursery:
        queue(peer, b"x")
        assert await stream.read() == b"x"

        async def reader() -> None:
            assert await stream.read() == b""

        nursery.start_soon(reader)
        await wait_all_tasks_blocked()
        peer.socket.close()


async def test_bytes_that_come_between_the_event_and_the_read_are_read_with_it() -> None:
    async with polled(unix_pair) as (stream, peer):
        queue(peer, b"a")
        await wait_all_tasks_blocked()
        queue(peer, b"b")
        assert await stream.read() == b"ab"
        # The second edge is still to come; it must do no harm.
        await wait_all_tasks_blocked()
        queue(peer, b"c")
        assert await stream.read() == b"c"


async def test_an_error_is_told_once_and_then_the_end_stays() -> None:
    async with polled(tcp_pair) as (stream, peer):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.socket.close()
        with pytest.raises(trio.BrokenResourceError):
            await stream.read()
        assert await stream.read() == b""


async def test_abort_sends_a_reset() -> None:
    async with polled(tcp_pair) as (stream, peer):
        stream.write_now(b"half a message")
        stream.abort()
        with pytest.raises(trio.BrokenResourceError):
            await drain(peer)


class EndlessSocket(socket.socket):
    """A sender faster than we are: each read is full."""

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        return bytes(bufsize)


async def test_a_stream_that_is_always_readable_does_not_starve_the_others() -> None:
    async with polling() as poller:
        ours, theirs = unix_pair()
        stream = poller.add(EndlessSocket(fileno=ours.detach()), THERE, HERE)
        theirs.send(b"x")
        await wait_all_tasks_blocked()
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count_turns)
            await trio.lowlevel.checkpoint()
            before = turns
            for _ in range(160):
                assert await stream.read()
            assert turns - before >= 160 // 16 - 1
            nursery.cancel_scope.cancel()
        stream.close()
        theirs.close()


async def test_one_reader_and_one_writer_at_a_time() -> None:
    async with polled(unix_pair) as (stream, _):
        # Too much for the socket's buffer: from here on nothing is taken.
        while stream.write_now(b"x" * 65536):
            pass
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.read)
            nursery.start_soon(stream.wait_writable)
            await wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await stream.read()
            with pytest.raises(trio.BusyResourceError):
                await stream.wait_writable()
            nursery.cancel_scope.cancel()


async def test_reading_and_writing_park_apart() -> None:
    async with polled(unix_pair) as (stream, peer), trio.open_nursery() as nursery:
        while stream.write_now(b"x" * 65536):
            pass
        written = trio.Event()

        async def writer() -> None:
            await stream.wait_writable()
            written.set()

        nursery.start_soon(writer)
        await wait_all_tasks_blocked()
        queue(peer, b"bytes do not make room")
        assert await stream.read() == b"bytes do not make room"
        await wait_all_tasks_blocked()
        assert not written.is_set()
        while not written.is_set():
            await peer.receive_some(65536)
            await wait_all_tasks_blocked()


def reopen(fd: int) -> tuple[socket.socket, socket.socket]:
    """Return a new pair of which our end has the descriptor ``fd``."""
    ours, theirs = unix_pair()
    assert ours.fileno() == fd or theirs.fileno() == fd
    if theirs.fileno() == fd:
        ours, theirs = theirs, ours
        ours.setblocking(False)
    return ours, theirs


async def test_a_descriptor_used_again_gets_nothing_of_the_old_socket() -> None:
    async with polling() as poller:
        old_sock, old_peer = unix_pair()
        fd = old_sock.fileno()
        old = poller.add(old_sock, THERE, HERE)
        with trio.CancelScope() as scope:
            old.watch(scope)
            # The event is in the epoll already when the socket is closed and its number used again.
            old_peer.send(b"for the old one")
            old_peer.close()
            old.close()
            ours, theirs = reopen(fd)
            new = poller.add(ours, THERE, HERE)
            await wait_all_tasks_blocked()
            assert not new.pending
            assert not new.hung_up
        assert not scope.cancel_called
        theirs.send(b"for the new one")
        assert await new.read() == b"for the new one"
        old.close()  # long closed: must not touch the new one
        assert len(poller) == 1
        theirs.send(b"more")
        assert await new.read() == b"more"
        new.close()
        theirs.close()


async def test_closing_and_the_event_in_the_same_tick_wake_once() -> None:
    async with polled(unix_pair) as (stream, peer), trio.open_nursery() as nursery:
        outcome: list[object] = []

        async def reader() -> None:
            try:
                outcome.append(await stream.read())
            except trio.ClosedResourceError as exc:
                outcome.append(type(exc))

        nursery.start_soon(reader)
        await wait_all_tasks_blocked()
        queue(peer, b"x")
        # The poller wakes the reader in one of these turns, and the socket is closed under it.
        await trio.lowlevel.checkpoint()
        stream.close()
        await wait_all_tasks_blocked()
        assert outcome in ([trio.ClosedResourceError], [b"x"])


async def test_a_socket_that_cannot_be_watched_is_not_kept() -> None:
    async with polling() as poller:
        ours, theirs = unix_pair()
        ours.close()
        with pytest.raises((ValueError, OSError)):
            poller.add(ours, THERE, HERE)
        assert len(poller) == 0
        theirs.close()


async def test_large_reads_grow_and_shrink_with_what_comes() -> None:
    async with polled(unix_pair) as (stream, peer):
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * 1024 * 1024)
        sizes = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.send_all, b"x" * 8 * 1024 * 1024)
            got = 0
            while got < 8 * 1024 * 1024:
                sizes.append(len(await stream.read()))
                got += sizes[-1]
        assert max(sizes) > SMALL
        for _ in range(8):
            queue(peer, b"x")
            await stream.read()
        queue(peer, b"x" * 3 * SMALL)
        assert len(await stream.read()) == SMALL


async def test_the_poller_serves_many_at_once() -> None:
    async with polling() as poller:
        pairs = [unix_pair() for _ in range(40)]
        streams = [poller.add(ours, THERE, HERE) for ours, _ in pairs]
        got: list[int] = []

        async def reader(index: int, stream: PolledSocket) -> None:
            assert await stream.read() == b"%d" % index
            got.append(index)

        async with trio.open_nursery() as nursery:
            for index, stream in enumerate(streams):
                nursery.start_soon(reader, index, stream)
            await wait_all_tasks_blocked()
            for index, (_, theirs) in enumerate(pairs):
                theirs.send(b"%d" % index)
        assert sorted(got) == list(range(40))
        for stream, (_, theirs) in zip(streams, pairs, strict=True):
            stream.close()
            theirs.close()


def test_closing_the_poller_twice_does_no_harm() -> None:
    poller = Poller()
    poller.close()
    poller.close()
