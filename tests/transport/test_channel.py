"""The channel: whole messages, descriptors that never leak, and an end that is really the end."""

from __future__ import annotations

import array
import fcntl
import os
import resource
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from xproxy.transport.channel import (
    IN_A_ROW,
    MAX_DESCRIPTORS,
    MAX_MESSAGE_BYTES,
    MAX_STATE_BYTES,
    Channel,
    NotSent,
    Received,
    Unheard,
)

HEADER = struct.Struct("!BBHI")


def open_now() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextmanager
def leaking_nothing() -> Iterator[None]:
    before = open_now()
    yield
    assert open_now() == before


def pair() -> tuple[Channel, Channel]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Channel(one), Channel(other)


@contextmanager
def channels() -> Iterator[tuple[Channel, Channel]]:
    with leaking_nothing():
        one, other = pair()
        try:
            yield one, other
        finally:
            one.close()
            other.close()


@contextmanager
def raw() -> Iterator[tuple[socket.socket, Channel]]:
    """A peer that may send anything, and a channel that hears it."""
    with leaking_nothing():
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        channel = Channel(other)
        try:
            yield one, channel
        finally:
            one.close()
            channel.close()


@contextmanager
def room_for(count: int) -> Iterator[None]:
    """Let so many more files be open, and no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    top = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    fillers = [os.dup(0) for _ in range(top)]  # no number below is free
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(fillers) + 1 + count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for number in fillers:
            os.close(number)


async def got(channel: Channel) -> Received:
    with trio.fail_after(10):
        received = await channel.receive()
    assert received is not None
    return received


async def test_messages_come_whole_and_in_order() -> None:
    with channels() as (one, other):
        for message in (b"a", b"b" * 60_000, b"c"):
            await one.send(message, within=1)
        assert [(await got(other)).message for _ in range(3)] == [b"a", b"b" * 60_000, b"c"]


@pytest.mark.parametrize("size", [0, 1, MAX_MESSAGE_BYTES, MAX_STATE_BYTES])
async def test_a_state_of_any_size_comes_beside_a_message(size: int) -> None:
    state = b"s" * size
    with channels() as (one, other), socket.socket() as given:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: one.send(b"m", [given.fileno()], state, within=10))
            with await got(other) as received:
                assert (received.message, received.torn) == (b"m", "")
                assert received.state == state
                [number] = received.take()
                assert fcntl.fcntl(number, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
                os.close(number)


async def test_no_state_is_not_an_empty_one() -> None:
    with channels() as (one, other):
        await one.send(b"m", within=1)
        assert (await got(other)).state is None
        await one.send(b"m", state=b"", within=1)
        assert (await got(other)).state == b""


async def test_who_does_not_take_descriptors_leaks_none() -> None:
    with channels() as (one, other), socket.socket() as given:
        await one.send(b"m", [given.fileno()] * MAX_DESCRIPTORS, within=1)
        with await got(other) as received:
            assert len(received.descriptors) == MAX_DESCRIPTORS
        await one.send(b"nobody reads it", [given.fileno()], within=1)


async def test_what_is_too_long_is_refused_here() -> None:
    with channels() as (one, _), socket.socket() as given:
        for message, descriptors, state in (
            (b"", [], None),
            (b"m" * MAX_MESSAGE_BYTES, [], None),
            (b"m", [given.fileno()] * (MAX_DESCRIPTORS + 1), None),
            (b"m", [], b"s" * (MAX_STATE_BYTES + 1)),
        ):
            with pytest.raises(ValueError, match="limit"):
                await one.send(message, descriptors, state, within=1)


async def test_a_bound_on_waiting() -> None:
    with channels() as (one, _):

        async def fill() -> None:
            while True:
                await one.send(b"m" * 60_000, within=0.05)

        with pytest.raises(trio.TooSlowError):
            await fill()


async def test_room_is_waited_for() -> None:
    with channels() as (one, other):
        count = 40
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                for number in range(count):
                    await one.send(b"%d" % number + b"m" * 60_000, within=10)

            nursery.start_soon(send)
            for number in range(count):
                assert (await got(other)).message.startswith(b"%dm" % number)


async def test_what_was_sent_before_the_end_is_read_though_the_other_side_left_some() -> None:
    with channels() as (one, other):
        await one.send(b"never read", within=1)
        for message in (b"a", b"b"):
            await other.send(message, within=1)
        other.close()  # with something unread: the kernel says ECONNRESET first
        assert [(await got(one)).message for _ in range(2)] == [b"a", b"b"]
        assert await one.receive() is None
        with pytest.raises(Unheard):
            await one.send(b"m", within=1)


async def test_what_was_sent_before_receiving_stopped_is_received() -> None:
    with channels() as (one, other):
        await other.send(b"before", within=1)
        one.stop_receiving()
        with pytest.raises(Unheard):
            await other.send(b"after", within=1)
        assert (await got(one)).message == b"before"
        assert await one.receive() is None
        # The other direction goes on.
        await one.send(b"withdrawn", within=1)
        assert (await got(other)).message == b"withdrawn"
        other.close()
        one.stop_receiving()


async def test_waiting_can_be_cancelled() -> None:
    with channels() as (one, other):
        with trio.move_on_after(0.01) as scope:
            await other.receive()
        assert scope.cancelled_caught
        await one.send(b"m", within=1)
        assert (await got(other)).message == b"m"


def _ancillary(*numbers: int) -> list[tuple[int, int, array.array[int]]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", numbers))]


async def test_too_many_descriptors_are_lost_and_said_to_be() -> None:
    with raw() as (peer, channel), socket.socket() as given:
        many = [given.fileno()] * 200
        peer.sendmsg([HEADER.pack(2, 200, 1, 0), b"m"], _ancillary(*many))
        with await got(channel) as received:
            assert (received.message, received.descriptors) == (b"m", [])
            assert "lost on the way" in received.torn


@pytest.mark.parametrize(("said", "sent"), [(1, 0), (0, 1), (2, 1), (255, 1)])
async def test_a_wrong_count_of_descriptors_is_told_with_the_message(said: int, sent: int) -> None:
    with raw() as (peer, channel), socket.socket() as given:
        numbers = [given.fileno()] * sent
        peer.sendmsg([HEADER.pack(2, said, 1, 0), b"m"], _ancillary(*numbers) if sent else [])
        with await got(channel) as received:
            assert (received.message, received.descriptors) == (b"m", [])
            assert "not as many as were sent" in received.torn


async def test_beyond_the_limit_of_open_files_the_message_comes_without_them() -> None:
    with channels() as (one, other), socket.socket() as given:
        await one.send(b"m", [given.fileno()] * 4, within=1)
        with room_for(1):
            received = await other.receive()
        assert received is not None
        assert received.message == b"m"
        assert received.torn
        assert received.descriptors == []


@pytest.mark.parametrize(
    "data",
    [
        b"m",
        HEADER.pack(3, 0, 1, 0) + b"m",
        HEADER.pack(2, 0, 0, 0),
        HEADER.pack(2, 0, 1, 1) + b"ms",
        HEADER.pack(0, 0, 1, 1) + b"m",
        HEADER.pack(0, 0, 1, 1) + b"mss",
        HEADER.pack(1, 0, 2, 1) + b"m",
        HEADER.pack(1, 0, 1, MAX_STATE_BYTES + 1) + b"m",
        bytes(MAX_MESSAGE_BYTES + 1),
    ],
)
async def test_what_is_no_message_is_refused_and_the_next_one_comes(data: bytes) -> None:
    with raw() as (peer, channel), socket.socket() as given:
        peer.sendmsg([data], _ancillary(given.fileno()))
        with pytest.raises(ValueError, match="message"):
            await channel.receive()
        peer.sendmsg([HEADER.pack(2, 0, 1, 0), b"m"])
        assert (await got(channel)).message == b"m"


async def test_who_says_no_message_without_a_pause_holds_up_nobody() -> None:
    others = trio.Event()
    with raw() as (peer, channel):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_set, others)
            for _ in range(2 * IN_A_ROW):  # within one turn of Trio's the order of tasks is random
                peer.send(b"m")
                with pytest.raises(ValueError, match="message"):
                    await channel.receive()
            assert others.is_set()


async def test_what_is_there_already_is_received_in_one_turn() -> None:
    others = trio.Event()
    with channels() as (one, other):
        for number in range(IN_A_ROW - 1):
            await one.send(b"%d" % number, within=1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_set, others)
            for number in range(IN_A_ROW - 1):
                assert (await got(other)).message == b"%d" % number
            assert not others.is_set()


async def _set(event: trio.Event) -> None:
    event.set()


@pytest.mark.parametrize("how", ["unsealed", "short", "a socket", "a file"])
async def test_a_state_that_cannot_be_trusted_is_none(how: str, tmp_path: Path) -> None:
    with raw() as (peer, channel), socket.socket() as given:
        if how == "a socket":
            number = os.dup(given.fileno())
        elif how == "a file":
            number = os.open(tmp_path / "state", os.O_RDWR | os.O_CREAT)
        else:
            number = os.memfd_create("state", os.MFD_ALLOW_SEALING)
        if how != "a socket":
            os.write(number, b"state")
        if how == "short":
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
            fcntl.fcntl(number, fcntl.F_ADD_SEALS, seals)
        size = 6 if how == "short" else 5
        peer.sendmsg([HEADER.pack(1, 1, 1, size), b"m"], _ancillary(given.fileno(), number))
        os.close(number)
        with await got(channel) as received:
            assert (received.message, received.state, received.descriptors) == (b"m", None, [])
            assert "a state" in received.torn


async def test_nobody_can_change_a_state_that_was_sent() -> None:
    with raw() as (peer, channel):
        await channel.send(b"m", state=b"s" * MAX_MESSAGE_BYTES, within=1)
        _, ancillary, _, _ = peer.recvmsg(100, 100)
        [(_, _, data)] = ancillary
        [number] = array.array("i", data)
        with pytest.raises(OSError):
            os.pwrite(number, b"x", 0)
        with pytest.raises(OSError):
            os.ftruncate(number, 0)
        os.close(number)


async def test_a_message_that_the_kernel_does_not_take_leaves_the_channel_as_it_was() -> None:
    with channels() as (one, other):
        with room_for(0), pytest.raises(NotSent):
            await one.send(b"m", state=b"s" * MAX_MESSAGE_BYTES, within=1)
        await one.send(b"next", within=1)
        assert (await got(other)).message == b"next"


def test_a_channel_is_made_of_whole_messages_only() -> None:
    one, other = socket.socketpair()
    with one, other, pytest.raises(ValueError, match="whole messages"):
        Channel(one)
