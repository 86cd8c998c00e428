"""A serial wire: frames on demand, and bytes in order however slowly they are taken."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.connection.serial.pulled import END, HEAD, pulling
from tests.connection.shared.wires import Mute, Sink
from xproxy.connection.phase import Phase
from xproxy.connection.serial.wire import SerialWire
from xproxy.connection.service import DownstreamStats
from xproxy.connection.wire import WriteStalled
from xproxy.model.frames import Credit, Data, Frame, GoAway, Reply, Violation


async def test_frames_come_in_order_and_only_when_wanted(autojump_clock: MockClock) -> None:
    async with pulling([HEAD, Data(1, b"a")], [], [END]) as (wire, peer):
        await peer.send(b"1")
        assert await wire.pull() is HEAD
        assert await wire.pull() == Data(1, b"a")
        async with trio.open_nursery() as nursery:
            got: list[Frame | None] = []

            async def pull() -> None:
                got.append(await wire.pull())

            nursery.start_soon(pull)
            for byte in (b"2", b"3"):  # the second read brings nothing
                await wait_all_tasks_blocked()
                assert got == []
                await peer.send(byte)
        assert got == [END]


async def test_the_end_of_the_input_is_none_for_ever(autojump_clock: MockClock) -> None:
    async with pulling(at_end=[END]) as (wire, peer):
        await peer.send_eof()
        assert await wire.pull() is END
        assert wire.phase is Phase.HEARD
        assert await wire.pull() is None
        assert await wire.pull() is None


async def test_what_the_codec_owes_is_written_and_notices_are_noted(
    autojump_clock: MockClock,
) -> None:
    violation = Violation("wrong")
    async with pulling([Reply(b"pong"), GoAway(), Credit(), violation]) as (wire, peer):
        await peer.send(b"x")
        assert await wire.pull() == Credit()
        await peer.expect(b"pong")
        assert wire.phase is Phase.LEAVING
        assert wire.violation is None
        assert await wire.pull() is violation
        assert wire.violation is violation


async def test_a_cancelled_pull_loses_nothing(autojump_clock: MockClock) -> None:
    async with pulling([HEAD]) as (wire, peer):
        with trio.move_on_after(1):
            await wire.pull()
        await peer.send(b"x")
        assert await wire.pull() is HEAD


async def test_bytes_leave_in_order_whoever_writes_and_are_counted(
    autojump_clock: MockClock,
) -> None:
    sink, stats = Sink(room=3), DownstreamStats()
    wire = SerialWire(sink, Mute(), stats)
    async with trio.open_nursery() as nursery:
        await wire.write(b"ab")
        nursery.start_soon(wire.write, b"cdef")
        await wait_all_tasks_blocked()
        nursery.start_soon(wire.write, b"gh")  # behind what waits, by whoever writes that
        await wait_all_tasks_blocked()
        assert (sink.data, wire.unsent()) == (b"abc", b"defgh")
        sink.give(2)
        await wait_all_tasks_blocked()
        assert (sink.data, wire.unsent()) == (b"abcde", b"fgh")
        sink.give(100)
    assert (sink.data, wire.unsent()) == (b"abcdefgh", b"")
    assert stats.downstream_tx_bytes_total == 8


async def test_a_write_that_was_given_up_still_comes_before_the_next(
    autojump_clock: MockClock,
) -> None:
    sink = Sink(room=1)
    wire = SerialWire(sink, Mute())
    with trio.move_on_after(1):
        await wire.write(b"abc")
    assert wire.unsent() == b"bc"
    sink.give(100)
    await wire.write(b"d")
    assert sink.data == b"abcd"


async def test_what_waits_goes_to_the_stream_that_is_there_when_it_can_go(
    autojump_clock: MockClock,
) -> None:
    first, second = Sink(room=1), Sink()
    wire = SerialWire(first, Mute())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.write, b"abc")
        await wait_all_tasks_blocked()
        wire.become(second, wire.codec)
        first.give(1)
    assert (first.data, second.data) == (b"a", b"bc")


async def test_a_peer_that_takes_nothing_is_not_waited_for_for_ever(
    autojump_clock: MockClock,
) -> None:
    sink = Sink(room=1)
    wire = SerialWire(sink, Mute())
    with trio.move_on_after(0):
        await wire.write(b"abc")
    moved: list[float] = []

    async def flush() -> None:
        with pytest.raises(WriteStalled, match="took nothing for 7 s"):
            await wire.flush(lambda: moved.append(trio.current_time()), 7)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flush)
        await trio.sleep(5)
        sink.give(1)
    assert moved == [5]
    assert trio.current_time() == 12
    wire.abort()
    assert wire.unsent() == b""
    assert wire.phase is Phase.BROKEN


async def test_who_waits_for_another_to_write_goes_on_himself_where_that_one_gives_up(
    autojump_clock: MockClock,
) -> None:
    sink = Sink(room=0)
    wire = SerialWire(sink, Mute())
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as first:
            first.start_soon(wire.write, b"abc")
            await wait_all_tasks_blocked()
            nursery.start_soon(wire.write, b"de")
            await wait_all_tasks_blocked()
            first.cancel_scope.cancel()
        sink.give(100)
    assert sink.data == b"abcde"


async def test_nobody_waits_for_another_to_write_for_ever(autojump_clock: MockClock) -> None:
    wire = SerialWire(Sink(room=0), Mute())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.write, b"abc")
        await wait_all_tasks_blocked()
        with pytest.raises(WriteStalled):
            await wire.flush(stall=7)
        assert trio.current_time() == 7
        nursery.cancel_scope.cancel()
