"""Bytes of a connection before its protocol is known: bounded in time, counted, frozen where they are waited for."""

from __future__ import annotations

import math

import attrs
import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from tests.transport.ends import HERE, THERE, polled
from xproxy.connection.standing import Standing
from xproxy.proxy.connection import Connection
from xproxy.proxy.opening_reader import OpeningReader
from xproxy.stream.held import COUNTED
from xproxy.transport.stream import Moved
from xproxy.transport.trio_stream import TrioStream


async def reading(reader: OpeningReader, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await reader._read()


async def test_what_is_read_is_counted_and_its_first_byte_has_a_time() -> None:
    async with polled() as (stream, peer):
        reader = OpeningReader(Connection(1, stream))
        await peer.send_all(b"a")
        assert await reader._read()
        since = reader._since
        assert reader.connection.share.unfinished == 0, "too little to be counted"
        await peer.send_all(bytes(COUNTED))
        while len(reader._prefix) <= COUNTED:
            assert await reader._read()
        assert reader._since == since
        assert reader.connection.share.unfinished == 1 + COUNTED
        await peer.send_eof()
        assert not await reader._read()
        assert reader._ended


async def test_who_may_be_silent_has_so_long_and_what_was_left_elsewhere(
    autojump_clock: MockClock,
) -> None:
    ours, _theirs = memory_stream_pair()
    reader = OpeningReader(Connection(1, TrioStream(ours, HERE, THERE)))
    reader._patience_left = 2.0
    for seconds in (2.0, 2.0):
        began = trio.current_time()
        assert not await reader._read_within(5.0)
        assert trio.current_time() - began == seconds
        assert reader._patience is None


async def test_a_step_has_what_was_left_of_it_elsewhere_once() -> None:
    ours, _theirs = memory_stream_pair()
    reader = OpeningReader(Connection(1, TrioStream(ours, HERE, THERE)))
    reader._left = 1.0
    now = trio.current_time()
    assert reader._step(5.0).deadline == pytest.approx(now + 1, abs=0.5)
    assert reader._step(5.0).deadline == pytest.approx(now + 5, abs=0.5)
    assert reader._step(0.0).deadline == math.inf


async def test_a_stream_that_cannot_move_stays_as_it_is() -> None:
    ours, theirs = memory_stream_pair()
    stream = TrioStream(ours, HERE, THERE)
    reader = OpeningReader(Connection(1, stream))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.run)
        await nursery.start(reading, reader)
        await wait_all_tasks_blocked()
        assert reader.standing is Standing.NOT_NOW
        with pytest.raises(ValueError, match="cannot be given"):
            reader.freeze()
        await theirs.send_all(b"x")
        await wait_all_tasks_blocked()
        assert reader._prefix == b"x"
        stream.close()


async def test_it_is_written_down_where_it_waits_and_goes_on() -> None:
    async with polled() as (stream, peer), trio.open_nursery() as nursery:
        reader = OpeningReader(Connection(1, stream))
        assert reader.standing is Standing.BUSY
        reader._step(30.0)
        await nursery.start(reading, reader)
        await wait_all_tasks_blocked()
        standing = [reader.standing]
        moment = reader.freeze()
        standing.append(reader.standing)
        assert (moment.prefix, moment.patience, moment.waited) == (b"", math.inf, 0.0)
        assert 29 < moment.left <= 30
        assert moment.sock is not None
        await peer.send_all(b"abc")
        await wait_all_tasks_blocked()
        assert reader._prefix == b""
        reader.thaw()
        await wait_all_tasks_blocked()
        assert reader._prefix == b"abc"
        assert standing == [Standing.IDLE, Standing.NOT_NOW]


async def test_it_goes_on_from_a_moment_and_leaves_at_another() -> None:
    async with polled() as (stream, _peer):
        reader = OpeningReader(Connection(1, stream))
        frozen = []

        def found() -> bool:
            frozen.append(reader.freeze())
            return True

        async def leave() -> None:
            with pytest.raises(Moved):
                await reader._read()

        async with trio.open_nursery() as nursery:
            reader.seek(found)
            nursery.start_soon(leave)
            await wait_all_tasks_blocked()
            reader.leave()
        assert reader.standing is Standing.NEVER
        [moment] = frozen
        ours, _theirs = memory_stream_pair()
        other = OpeningReader(Connection(1, TrioStream(ours, HERE, THERE)))
        assert other._restore(attrs.evolve(moment, prefix=b"GE", waited=1.5)) is None
        assert other._prefix == b"GE"
        assert trio.current_time() - other._since == pytest.approx(1.5, abs=0.5)
