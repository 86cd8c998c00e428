"""The outbox: order, batches, bounds, and a writer that gives up on who takes nothing."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from xproxy.connection.shared.outbox import Outbox, WriteStalled
from xproxy.model.address import Address


class Sink:
    """A ByteStream that takes as much as it is told to."""

    hung_up = half_close = False
    pending = False

    def __init__(self, room: int = 10**9) -> None:
        self.peer = self.local = Address("192.0.2.1", 1)
        self.room = room
        self.writes: list[bytes] = []
        self.failure: Exception | None = None
        self._more = trio.lowlevel.ParkingLot()

    @property
    def data(self) -> bytes:
        return b"".join(self.writes)

    def give(self, room: int) -> None:
        self.room += room
        self._more.unpark_all()

    def fail(self, failure: Exception) -> None:
        self.failure = failure
        self._more.unpark_all()

    async def read(self) -> bytes:
        raise NotImplementedError

    def read_now(self) -> bytes | None:
        raise NotImplementedError

    def settle(self, more: float = 0.0) -> None:
        raise NotImplementedError

    async def turn(self) -> None:
        raise NotImplementedError

    async def pause(self, seconds: float) -> None:
        raise NotImplementedError

    def write_now(self, data: bytes | memoryview) -> int:
        if self.failure is not None:
            raise self.failure
        taken = bytes(data[: self.room])
        self.room -= len(taken)
        self.writes.append(taken)
        return len(taken)

    async def wait_writable(self) -> None:
        while not self.room and self.failure is None:
            await self._more.park()

    def watch(self, scope: trio.CancelScope | None) -> None:
        raise NotImplementedError

    def shutdown_write(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def abort(self) -> None:
        raise NotImplementedError


async def test_what_one_tick_puts_leaves_in_one_write_and_in_order() -> None:
    sink = Sink()
    outbox = Outbox(sink, 1000, 60)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.run)
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
    outbox = Outbox(sink, 1000, 60)
    outbox.put(b"early")
    outbox.finish()
    await outbox.run()
    assert sink.data == b"early"


async def test_finish_writes_all_and_returns(autojump_clock: MockClock) -> None:
    sink = Sink(room=3)
    outbox = Outbox(sink, 1000, 60)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.run)
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
    outbox = Outbox(sink, 10, 60)
    passed: list[int] = []

    async def produce(number: int) -> None:
        await outbox.room()
        passed.append(number)
        outbox.put(b"x" * 10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.run)
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
    outbox = Outbox(Sink(room=4), 1000, 7)
    outbox.put(b"abcdef")
    with pytest.raises(WriteStalled, match="took nothing for 7 s"):
        await outbox.run()
    assert trio.current_time() == 7


async def test_a_peer_that_takes_a_little_now_and_then_is_not(autojump_clock: MockClock) -> None:
    sink = Sink(room=0)
    outbox = Outbox(sink, 1000, 7)
    outbox.put(b"abcdef")
    outbox.finish()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.run)
        for _ in range(6):
            await trio.sleep(6)
            sink.give(1)
    assert sink.data == b"abcdef"


async def test_no_stall_time_is_for_ever(autojump_clock: MockClock) -> None:
    sink = Sink(room=0)
    outbox = Outbox(sink, 1000, 0)
    outbox.put(b"a")
    outbox.finish()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.run)
        await trio.sleep(80_000)
        sink.give(1)
    assert sink.data == b"a"


@pytest.mark.parametrize("room", [0, 100])
async def test_a_break_is_told_and_nobody_waits_for_room_any_more(
    room: int, autojump_clock: MockClock
) -> None:
    sink = Sink(room)
    outbox = Outbox(sink, 4, 60)

    async def run() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await outbox.run()

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
    outbox = Outbox(Sink(room=0), 4, 60)
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as inner:
            inner.start_soon(outbox.run)
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
    outbox = Outbox(sink, 4, 60)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.run)
        outbox.put(b"abcdef")
        with trio.move_on_after(1) as scope:
            await outbox.room()
        assert scope.cancelled_caught
        sink.give(10)
        await outbox.room()
        outbox.finish()
    assert sink.data == b"abcdef"
