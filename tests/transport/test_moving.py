"""A stream whose socket goes to another process: suspended, then resumed or left, and its peer never notices."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.transport.ends import HERE, THERE, Peer, connected, polling
from xproxy.transport.stream import MovableStream, Moved, write_all
from xproxy.transport.tls.stream import TlsStream, resume

KINDS = pytest.mark.parametrize("kind", ["polled-tcp", "polled-unix", "tls-resumed"])


@asynccontextmanager
async def movable(kind: str) -> AsyncIterator[tuple[MovableStream, Peer]]:
    async with connected(kind) as (stream, peer):
        assert isinstance(stream, MovableStream)
        yield stream, peer


@KINDS
async def test_who_waits_goes_on_waiting_and_gets_what_came_meanwhile(kind: str) -> None:
    async with movable(kind) as (stream, peer), trio.open_nursery() as nursery:
        got: list[bytes] = []

        async def read() -> None:
            got.append(await stream.read())

        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        for _ in range(2):
            stream.suspend()
            with pytest.raises(trio.ClosedResourceError):
                stream.suspend()
            await peer.send_all(b"x")
            await wait_all_tasks_blocked(0.01)
            assert not got
            stream.resume()
            stream.resume()
            await wait_all_tasks_blocked()
            assert got.pop() == b"x"
            nursery.start_soon(read)
            await wait_all_tasks_blocked()
        await write_all(stream, b"y")
        assert await peer.receive_some() == b"y"
        await peer.send_all(b"z")


@KINDS
async def test_nothing_is_read_or_written_meanwhile(kind: str) -> None:
    async with movable(kind) as (stream, peer), trio.open_nursery() as nursery:
        stream.suspend()
        with pytest.raises(trio.ClosedResourceError):
            stream.write_now(b"x")
        got: list[bytes] = []

        async def come(wait: Callable[[], Awaitable[bytes | None]]) -> None:
            got.append(await wait() or b"")

        for wait in (stream.read, stream.wait_writable, stream.turn):
            nursery.start_soon(come, wait)
        await peer.send_all(b"after")
        await wait_all_tasks_blocked(0.01)
        assert not got
        stream.resume()
        with trio.fail_after(5):
            while len(got) < 3:
                await trio.lowlevel.checkpoint()
        assert sorted(got) == [b"", b"", b"after"]


@KINDS
@pytest.mark.parametrize("how", ["leave", "close"])
async def test_whoever_came_meanwhile_is_told_how_it_ended(kind: str, how: str) -> None:
    async with movable(kind) as (stream, _peer):
        told: list[type[Exception]] = []

        async def come(wait: Callable[[], Awaitable[bytes | None]]) -> None:
            try:
                await wait()
            except trio.ClosedResourceError as exc:
                told.append(type(exc))

        async with trio.open_nursery() as nursery:
            stream.suspend()
            for wait in (stream.read, stream.wait_writable, stream.turn):
                nursery.start_soon(come, wait)
            await wait_all_tasks_blocked(0.01)
            assert not told
            getattr(stream, how)()
        assert told == [Moved if how == "leave" else trio.ClosedResourceError] * 3


async def test_what_was_deciphered_before_it_stood_still_is_read_after_it() -> None:
    async with movable("tls-resumed") as (stream, peer), trio.open_nursery() as nursery:
        await peer.send_all(b"before")
        with trio.fail_after(5):
            while not stream.pending:  # which looks, and deciphers
                await trio.lowlevel.checkpoint()
        stream.suspend()
        got: list[bytes] = []

        async def read() -> None:
            got.append(await stream.read())

        nursery.start_soon(read)
        await wait_all_tasks_blocked(0.01)
        assert not got
        stream.export()
        stream.resume()
        await wait_all_tasks_blocked(0.01)
        assert got == [b"before"]


@KINDS
async def test_a_peer_that_hangs_up_meanwhile_is_noticed_afterwards(kind: str) -> None:
    async with movable(kind) as (stream, peer):
        with trio.CancelScope() as scope:
            stream.watch(scope)
            stream.suspend()
            await peer.aclose()
            await wait_all_tasks_blocked(0.01)
            assert not scope.cancel_called
            stream.resume()
            await trio.sleep_forever()
        assert scope.cancelled_caught
        assert stream.hung_up


@KINDS
async def test_whoever_waits_is_told_that_it_has_left(kind: str) -> None:
    async with movable(kind) as (stream, peer):
        ended: list[str] = []

        async def read() -> None:
            with pytest.raises(Moved):
                await stream.read()
            ended.append("reader")

        async def write() -> None:
            with pytest.raises(Moved):
                await write_all(stream, bytes(8 << 20))
            ended.append("writer")

        with pytest.raises(RuntimeError):
            stream.leave()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            nursery.start_soon(write)
            await wait_all_tasks_blocked(0.01)
            other = stream.suspend().dup()  # as the other process has it
            stream.leave()
        assert sorted(ended) == ["reader", "writer"]
        stream.close()
        stream.abort()  # both long over: they must not reach the peer
        with pytest.raises(trio.ClosedResourceError):
            stream.write_now(b"x")
        if kind != "tls-resumed":
            await goes_on(other, peer)
        else:
            other.close()


async def goes_on(sock: socket.socket, peer: Peer) -> None:
    async with polling() as poller:
        stream = poller.add(sock, THERE, HERE)
        async with trio.open_nursery() as nursery:

            async def drain() -> None:
                got = 0
                while await peer.receive_some(1 << 20):
                    got += 1
                assert got

            nursery.start_soon(drain)
            await write_all(stream, b"still here")
            await peer.send_all(b"ping")
            assert await stream.read() == b"ping"
            stream.close()


async def test_a_tls_session_goes_on_over_the_socket_that_moved() -> None:
    async with movable("tls-resumed") as (stream, peer), polling() as poller:
        assert isinstance(stream, TlsStream)
        sock = stream.suspend().dup()
        state = stream.export()
        stream.leave()
        moved = resume(poller.add(sock, THERE, HERE), state)
        await write_all(moved, b"still here")
        assert await peer.receive_some() == b"still here"
        await peer.send_all(b"ping")
        assert await moved.read() == b"ping"
        moved.close()


async def test_what_is_withdrawn_can_be_aborted() -> None:
    async with movable("polled-tcp") as (stream, peer):
        stream.suspend()
        stream.abort()
        with pytest.raises(trio.BrokenResourceError):
            await peer.receive_some()
