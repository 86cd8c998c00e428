"""What is the plain-Trio stream's own; the contract is in ``test_stream.py``."""

from __future__ import annotations

import pytest
import trio
from trio.testing import (
    MockClock,
    lockstep_stream_pair,
    memory_stream_pair,
    wait_all_tasks_blocked,
)

from tests.transport.ends import HERE, THERE, trio_stream
from xproxy.transport.trio_stream import TrioStream


async def test_it_reads_one_piece_ahead_and_no_more() -> None:
    async with trio_stream(lockstep_stream_pair) as (stream, peer), trio.open_nursery() as nursery:
        await peer.send_all(b"first")  # taken, though nobody reads
        sent = trio.Event()

        async def send_more() -> None:
            await peer.send_all(b"second")
            sent.set()

        nursery.start_soon(send_more)
        await wait_all_tasks_blocked()
        assert not sent.is_set()
        assert await stream.read() == b"first"
        assert await stream.read() == b"second"


async def test_what_was_read_ahead_survives_a_break() -> None:
    async with trio_stream(memory_stream_pair) as (stream, peer):
        await peer.send_all(b"an early answer")
        await wait_all_tasks_blocked()
        await trio.aclose_forcefully(peer)
        stream.write_now(b"the rest of the question")
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BrokenResourceError):
            stream.write_now(b"x")
        assert await stream.read() == b"an early answer"


async def test_it_takes_64_kib_that_nobody_reads_and_no_more() -> None:
    async with trio_stream(lockstep_stream_pair) as (stream, _):
        assert stream.write_now(b"x" * 100_000) == 65536
        assert stream.write_now(b"x") == 0


async def test_run_ends_when_the_stream_is_closed() -> None:
    ours, theirs = memory_stream_pair()
    stream = TrioStream(ours, THERE, HERE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.run)
        await wait_all_tasks_blocked()
        stream.close()
    assert await theirs.receive_some(1) == b""


async def test_run_ends_when_the_peer_breaks_while_the_last_bytes_go_out() -> None:
    ours, theirs = lockstep_stream_pair()
    stream = TrioStream(ours, THERE, HERE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.run)
        await theirs.send_all(b"never read")
        stream.write_now(b"last words")
        stream.close()
        await wait_all_tasks_blocked()
        await trio.aclose_forcefully(theirs)


async def test_last_words_do_not_wait_for_ever(autojump_clock: MockClock) -> None:
    ours, _theirs = lockstep_stream_pair()
    stream = TrioStream(ours, THERE, HERE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.run)
        await wait_all_tasks_blocked()
        stream.write_now(b"nobody takes this")
        stream.close()
    assert trio.current_time() < 120


async def test_abort_does_not_wait_at_all(autojump_clock: MockClock) -> None:
    ours, _theirs = lockstep_stream_pair()
    stream = TrioStream(ours, THERE, HERE)
    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.run)
        await wait_all_tasks_blocked()
        stream.write_now(b"nobody takes this")
        stream.abort()
    assert trio.current_time() == started


async def test_cancelling_run_closes_the_stream() -> None:
    ours, theirs = memory_stream_pair()
    stream = TrioStream(ours, THERE, HERE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.run)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    with pytest.raises(trio.ClosedResourceError):
        await stream.read()
    assert await theirs.receive_some(1) == b""
