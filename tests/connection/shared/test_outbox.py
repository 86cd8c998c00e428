"""The outbox: order, batches, bounds, and a writer that gives up on who takes nothing."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.connection.shared.wires import Sink, shared_wire
from xproxy.connection.shared.outbox import Outbox
from xproxy.connection.wire import WriteStalled


async def test_what_one_tick_puts_leaves_in_one_write_and_in_order() -> None:
    sink = Sink()
    outbox = Outbox(1000, 60)
    wire = shared_wire(stream=sink, outbox=outbox)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.run, wire)
        await wait_all_tasks_blocked()
        for i in range(5):
            outbox.put(b"%d" % i)
        assert outbox.size == 5
        await wait_all_tasks_blocked()
        outbox.put(b"more")
        outbox.put(b"")
        await wait_all_tasks_blocked()
        assert sink.writes == [b"01234", b"more"]
        assert outbox.size == 0
        assert outbox.written == 9
        outbox.finish()


async def test_what_was_put_before_it_runs_is_written() -> None:
    sink = Sink()
    outbox = Outbox(1000, 60)
    wire = shared_wire(stream=sink, outbox=outbox)
    outbox.put(b"early")
    outbox.finish()
    await outbox.run(wire)
    assert sink.data == b"early"


async def test_finish_writes_all_and_returns(autojump_clock: MockClock) -> None:
    sink = Sink(room=3)
    outbox = Outbox(1000, 60)
    wire = shared_wire(stream=sink, outbox=outbox)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.run, wire)
        outbox.put(b"abcdef")
        await wait_all_tasks_blocked()
        outbox.put(b"ghi")
        outbox.finish()
        await wait_all_tasks_blocked()
        assert sink.data == b"abc"
        sink.give(100)
    assert sink.data == b"abcdefghi"


async def test_producers_wait_at_the_bound_until_there_is_room(autojump_clock: MockClock) -> None:
    sink = Sink(room=0)
    outbox = Outbox(10, 60)
    wire = shared_wire(stream=sink, outbox=outbox)
    passed: list[int] = []

    async def produce(number: int) -> None:
        await outbox.room()
        passed.append(number)
        outbox.put(b"x" * 10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.run, wire)
        for number in range(3):
            nursery.start_soon(produce, number)
            await wait_all_tasks_blocked()
        seen = [outbox.full]
        assert passed == [0]
        sink.give(9)
        await wait_all_tasks_blocked()
        assert passed == [0]  # its last byte is still here
        sink.give(1)
        await wait_all_tasks_blocked()
        assert len(passed) >= 2
        sink.give(100)
        await wait_all_tasks_blocked()
        assert sorted(passed) == [0, 1, 2]
        assert [*seen, outbox.full] == [True, False]
        outbox.finish()
    assert len(sink.data) == 30


async def test_a_peer_that_takes_nothing_for_too_long_is_given_up(
    autojump_clock: MockClock,
) -> None:
    outbox = Outbox(1000, 7)
    wire = shared_wire(stream=Sink(room=4), outbox=outbox)
    outbox.put(b"abcdef")
    with pytest.raises(WriteStalled, match="took nothing for 7 s"):
        await outbox.run(wire)
    assert trio.current_time() == 7


async def test_a_peer_that_takes_a_little_now_and_then_is_not(autojump_clock: MockClock) -> None:
    sink = Sink(room=0)
    outbox = Outbox(1000, 7)
    wire = shared_wire(stream=sink, outbox=outbox)
    outbox.put(b"abcdef")
    outbox.finish()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.run, wire)
        for _ in range(6):
            await trio.sleep(6)
            sink.give(1)
    assert sink.data == b"abcdef"


async def test_no_stall_time_is_for_ever(autojump_clock: MockClock) -> None:
    sink = Sink(room=0)
    outbox = Outbox(1000, 0)
    wire = shared_wire(stream=sink, outbox=outbox)
    outbox.put(b"a")
    outbox.finish()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.run, wire)
        await trio.sleep(80_000)
        sink.give(1)
    assert sink.data == b"a"


@pytest.mark.parametrize("room", [0, 100])
async def test_a_break_is_told_and_nobody_waits_for_room_any_more(
    room: int, autojump_clock: MockClock
) -> None:
    sink = Sink(room)
    outbox = Outbox(4, 60)
    wire = shared_wire(stream=sink, outbox=outbox)

    async def run() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await outbox.run(wire)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        if room:
            sink.failure = trio.BrokenResourceError()
        outbox.put(b"abcdef")
        nursery.start_soon(outbox.room)
        await wait_all_tasks_blocked()
        sink.fail(trio.BrokenResourceError())
    await outbox.room()
    assert not outbox.full


@pytest.mark.parametrize("where", ["idle", "writing"])
async def test_cancelling_the_writer_wakes_whoever_waits(
    where: str, autojump_clock: MockClock
) -> None:
    outbox = Outbox(4, 60)
    wire = shared_wire(stream=Sink(room=0), outbox=outbox)
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as inner:
            inner.start_soon(outbox.run, wire)
            await wait_all_tasks_blocked()
            if where == "writing":
                outbox.put(b"abcdef")
                nursery.start_soon(outbox.room)
                await wait_all_tasks_blocked()
            inner.cancel_scope.cancel()
        outbox.put(b"to nobody")
        outbox.finish()


async def test_cancelling_a_producer_cancels_the_waiting_and_not_the_writing(
    autojump_clock: MockClock,
) -> None:
    sink = Sink(room=2)
    outbox = Outbox(4, 60)
    wire = shared_wire(stream=sink, outbox=outbox)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.run, wire)
        outbox.put(b"abcdef")
        with trio.move_on_after(1) as scope:
            await outbox.room()
        assert scope.cancelled_caught
        sink.give(10)
        await outbox.room()
        outbox.finish()
    assert sink.data == b"abcdef"


async def test_what_has_not_gone_is_there_to_be_taken_along(autojump_clock: MockClock) -> None:
    sink = Sink(room=3)
    outbox = Outbox(1000, 60)
    wire = shared_wire(stream=sink, outbox=outbox)
    async with trio.open_nursery() as nursery:
        outbox.put(b"abcd")
        assert wire.unsent() == b"abcd"
        nursery.start_soon(outbox.run, wire)
        await wait_all_tasks_blocked()
        outbox.put(b"ef")
        outbox.put(b"g")
        assert (sink.data, wire.unsent()) == (b"abc", b"defg")
        sink.give(2)
        await wait_all_tasks_blocked()
        assert (sink.data, wire.unsent()) == (b"abcde", b"fg")
        sink.give(100)
        await wait_all_tasks_blocked()
        assert wire.unsent() == b""
        outbox.finish()


async def test_what_waits_goes_to_the_stream_that_is_there_when_it_can_go(
    autojump_clock: MockClock,
) -> None:
    first, second = Sink(room=1), Sink()
    outbox = Outbox(1000, 60)
    wire = shared_wire(stream=first, outbox=outbox)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.run, wire)
        outbox.put(b"abc")
        await wait_all_tasks_blocked()
        wire.become(second, wire.codec)
        first.give(1)  # it wakes, and looks which one there is
        await wait_all_tasks_blocked()
        outbox.put(b"d")
        await wait_all_tasks_blocked()
        assert (first.data, second.data) == (b"a", b"bcd")
        outbox.finish()
