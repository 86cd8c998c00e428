"""Edge-triggered polling: no wake-up may be lost, none may reach the wrong socket."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.transport.ends import HERE, PATIENCE, THERE, polled, polling, tcp_pair, unix_pair
from xproxy.transport.poller import PolledSocket, Poller
from xproxy.transport.turns import Turns

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


async def write_on(stream: PolledSocket) -> None:
    with trio.fail_after(PATIENCE):
        while True:
            stream.write_now(b"x")
            await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("said", [b"", b"an answer"])
@pytest.mark.parametrize("finished", [False, True], ids=["reset", "closed"])
async def test_a_write_that_learns_of_a_reset_hides_it_from_nobody(
    said: bytes, finished: bool
) -> None:
    async with polled(tcp_pair) as (stream, peer):
        stream.write_now(b"not read")
        await trio.lowlevel.wait_readable(peer.socket)
        await peer.send_all(said)
        if finished:
            await peer.send_eof()
        peer.socket.close()  # with bytes unread: a reset
        with pytest.raises(trio.BrokenResourceError):
            await write_on(stream)
        assert not said or await stream.read() == said
        if finished:
            assert await stream.read() == b""
        else:
            with pytest.raises(trio.BrokenResourceError):
                await stream.read()
            with pytest.raises(trio.BrokenResourceError):
                stream.read_now()


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


async def test_a_costly_stream_reads_less_at_a_time_until_it_is_cheap_again() -> None:
    def pressed(poller: Poller) -> Turns:
        poller.turns.pressed_until = math.inf
        return poller.turns

    async with polled(unix_pair, pressed) as (stream, peer):
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * SMALL)
        queue(peer, b"x" * 2 * SMALL)
        assert len(await stream.read()) == SMALL
        stream.settle(0.1)
        assert len(await stream.read()) == 1024
        sizes: list[int] = []
        while sum(sizes) < SMALL - 1024:
            stream.settle()
            sizes.append(len(await stream.read()))
        assert sizes == sorted(sizes) or max(sizes) >= 4096, "it grows again"


async def test_a_quick_stream_is_read_while_a_costly_one_waits() -> None:
    async with polling() as poller:
        poller.turns.grace = poller.turns.round = 0.0
        poller.turns.pressed_until = math.inf
        pairs = [unix_pair() for _ in range(2)]
        costly, quick = (poller.add(ours, THERE, HERE) for ours, _ in pairs)
        order: list[str] = []

        async def read(stream: PolledSocket, name: str) -> None:
            await stream.read()
            order.append(name)

        pairs[0][1].send(b"x")
        await costly.read()
        costly.settle(1.0)
        async with trio.open_nursery() as nursery:
            for stream, name in ((costly, "costly"), (quick, "quick")):
                nursery.start_soon(read, stream, name)
            await wait_all_tasks_blocked()
            for _, theirs in pairs:
                theirs.send(b"x")
        assert order == ["quick", "costly"]
        for stream, (_, theirs) in zip((costly, quick), pairs, strict=True):
            stream.close()
            theirs.close()


def given(idle: Callable[[], bool]) -> Turns:
    """Return turns that are given when ``idle`` says so, and never for the time that has passed: it stands."""
    turns = Turns(idle, clock=lambda: 1.0, grace=0.0)
    turns.grant()
    return turns


@pytest.mark.parametrize("how", ["close", "cancel"])
async def test_waiting_for_a_turn_can_be_ended(how: str) -> None:
    turns = given(lambda: False)
    turns.round = 0.0
    turns.pressed_until = math.inf
    async with polled(unix_pair, lambda _: turns) as (stream, peer):
        queue(peer, b"x")
        await stream.read()
        stream.settle(1.0)
        queue(peer, b"y")
        await stream.wait_readable()
        async with trio.open_nursery() as nursery:
            caught: list[type[BaseException]] = []

            async def read() -> None:
                try:
                    await stream.turn()
                    await stream.read()
                except (trio.ClosedResourceError, trio.Cancelled) as exc:
                    caught.append(type(exc))
                    if isinstance(exc, trio.Cancelled):
                        raise

            nursery.start_soon(read)
            while not len(turns):
                await trio.lowlevel.checkpoint()
            if how == "close":
                stream.close()
            else:
                nursery.cancel_scope.cancel()
        assert caught == [trio.ClosedResourceError if how == "close" else trio.Cancelled]
        assert len(turns) == 0


async def test_newcomers_and_much_at_once_wait_while_costly_ones_have_had_their_time() -> None:
    others_are_busy = True
    async with polling(lambda _: given(lambda: not others_are_busy)) as poller:
        pairs = [unix_pair() for _ in range(3)]
        known, fresh, quick = (poller.add(ours, THERE, HERE) for ours, _ in pairs)
        for stream, (_, theirs) in ((known, pairs[0]), (quick, pairs[2])):
            theirs.send(b"x")
            assert await stream.read() == b"x"
            stream.settle()
        poller.turns.free_at = math.inf
        poller.turns.busy = True
        poller.turns.pressed_until = math.inf
        got: list[tuple[PolledSocket, int]] = []

        async def read(stream: PolledSocket) -> None:
            got.append((stream, len(await stream.read())))

        pairs[0][1].send(b"x" * 2048)
        pairs[1][1].send(b"x")
        pairs[2][1].send(b"x" * 2047)
        async with trio.open_nursery() as nursery:
            for stream in (known, fresh, quick):
                nursery.start_soon(read, stream)
            while len(got) < 1 or len(poller.turns) < 2:
                await trio.lowlevel.checkpoint()
            assert got == [(quick, 2047)]
            others_are_busy = False
        assert sorted(size for _, size in got) == [1, 2047, 2048]
        for stream, (_, theirs) in zip((known, fresh, quick), pairs, strict=True):
            stream.close()
            theirs.close()


async def test_an_edge_that_came_before_anybody_waited_is_not_lost() -> None:
    async with polled(tcp_pair) as (stream, peer):
        block = bytes(65536)
        for _ in range(3):
            sent = 0
            while (taken := stream.write_now(block)) == len(block):
                sent += taken
            sent += taken
            while sent:
                sent -= len(await peer.receive_some(65536))
            while not stream.writable:
                await trio.lowlevel.checkpoint()
            with trio.fail_after(PATIENCE):
                await stream.wait_writable()
