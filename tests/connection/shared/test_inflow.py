"""A body in pieces between the reader and its stream."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.connection.shared.wires import Mute, shared_wire
from xproxy.connection.shared.inflow import Inflow
from xproxy.model.errors import UpstreamReset
from xproxy.model.frames import Data, Trailers
from xproxy.model.headers import NO_HEADERS

TRAILERS = Trailers(1, NO_HEADERS)


class Connection(Mute):
    """A codec with windows, and who wants to know of bodies that are given up."""

    def __init__(self) -> None:
        self.taken = 0
        self.released: list[int] = []

    def consumed(self, stream_id: int, count: int) -> bytes:
        assert stream_id == 1
        self.taken += count
        return b""

    def sendable(self, stream_id: int) -> int:
        raise NotImplementedError

    def release(self, stream_id: int) -> None:
        self.released.append(stream_id)


def inflow(first: bytes = b"") -> tuple[Inflow, Connection]:
    connection = Connection()
    return Inflow(shared_wire(connection), 1, first, owner=connection), connection


async def test_pieces_come_in_order_and_give_credit_when_they_are_taken() -> None:
    large = bytes(1024)
    body, connection = inflow(large)
    body.feed(Data(1, large * 2))
    body.feed(Data(1, b""))
    body.feed(Data(1, b"d", True))
    assert body.complete
    assert connection.taken == 0
    assert await body.receive() == large
    assert connection.taken == 1024
    assert await body.receive() == large * 2
    assert await body.receive() == b"d"
    assert connection.taken == 3073
    for _ in range(2):
        with pytest.raises(trio.EndOfChannel):
            await body.receive()


async def test_tiny_pieces_are_taken_together_up_to_the_trailers() -> None:
    body, connection = inflow(b"a")
    for _ in range(70_000):
        body.feed(Data(1, b"b"))
    body.feed(TRAILERS)
    assert await body.receive() == b"a" + b"b" * 65_535
    assert connection.taken == 65_536
    assert await body.receive() == b"b" * 4465
    assert await body.receive() is TRAILERS


def test_what_came_in_one_read_is_taken_as_one() -> None:
    body, connection = inflow(b"a")
    assert body.collect() is None  # its end is not here
    body.feed(Data(1, b"bc"))
    body.feed(TRAILERS)
    whole = body.collect()
    assert whole is not None
    assert whole.data == b"abc"
    assert whole.trailers is TRAILERS
    assert connection.taken == 3
    empty, _ = inflow()
    empty.feed(Data(1, b"", True))
    collected = empty.collect()
    assert collected is not None
    assert (collected.data, collected.trailers) == (b"", None)


def test_what_is_large_broken_or_given_up_is_not_taken_as_one() -> None:
    large, connection = inflow(bytes(65537))
    large.feed(Data(1, b"", True))
    assert large.collect() is None
    assert connection.taken == 0
    broken, _ = inflow(b"a")
    broken.fail(UpstreamReset("gone"))
    assert broken.collect() is None


async def test_trailers_end_it() -> None:
    body, _ = inflow()
    body.feed(TRAILERS)
    assert body.complete
    assert await body.receive() is TRAILERS
    with pytest.raises(trio.EndOfChannel):
        await body.receive()


async def test_the_taker_waits_for_the_next_piece(autojump_clock: MockClock) -> None:
    body, _ = inflow()
    got: list[bytes | Trailers] = []

    async def take() -> None:
        got.append(await body.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await wait_all_tasks_blocked()
        body.feed(Data(1, b""))  # nothing yet
        await wait_all_tasks_blocked()
        assert got == []
        body.feed(Data(1, b"a"))
    assert got == [b"a"]


async def test_a_cancelled_taker_loses_nothing(autojump_clock: MockClock) -> None:
    body, _ = inflow()
    with trio.move_on_after(1):
        await body.receive()
    body.feed(Data(1, b"a"))
    assert await body.receive() == b"a"


async def test_a_body_that_breaks_off_gives_what_came_and_then_the_error() -> None:
    body, connection = inflow(b"a")
    body.fail(UpstreamReset("gone"))
    body.fail(UpstreamReset("again"))
    assert await body.receive() == b"a"
    for _ in range(2):
        with pytest.raises(UpstreamReset, match="gone"):
            await body.receive()
    await body.aclose()
    assert connection.released == []  # the stream has ended already


async def test_a_break_wakes_a_waiting_taker(autojump_clock: MockClock) -> None:
    body, _ = inflow()

    async def take() -> None:
        with pytest.raises(UpstreamReset):
            await body.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await wait_all_tasks_blocked()
        body.fail(UpstreamReset("gone"))


async def test_nothing_breaks_a_complete_body() -> None:
    body, _ = inflow()
    body.feed(Data(1, b"a", True))
    body.fail(UpstreamReset("too late"))
    assert await body.receive() == b"a"
    with pytest.raises(trio.EndOfChannel):
        await body.receive()


async def test_giving_it_up_returns_the_credit_and_releases_the_stream_once() -> None:
    body, connection = inflow(b"abc")
    await body.aclose()
    await body.aclose()
    assert connection.taken == 3
    assert connection.released == [1]
    with pytest.raises(trio.ClosedResourceError):
        await body.receive()


async def test_late_pieces_of_a_body_given_up_are_dropped_and_give_credit() -> None:
    body, connection = inflow()
    await body.aclose()
    for _ in range(10):
        body.feed(Data(1, bytes(Inflow.LIMIT)))
        assert not body.full
    assert connection.taken == 10 * Inflow.LIMIT
    body.feed(TRAILERS)
    assert body.complete


async def test_a_complete_body_is_not_released_again() -> None:
    body, connection = inflow()
    body.feed(Data(1, b"abc", True))
    await body.aclose()
    assert connection.taken == 3
    assert connection.released == []


@pytest.mark.parametrize("how", ["take", "give up", "break"])
async def test_whoever_waits_for_room_is_woken(how: str, autojump_clock: MockClock) -> None:
    body, _ = inflow()
    body.feed(Data(1, bytes(Inflow.LIMIT - 1)))
    seen = [body.full]
    await body.room()
    body.feed(Data(1, b"x"))
    assert [*seen, body.full] == [False, True]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(body.room)
        await wait_all_tasks_blocked()
        if how == "take":
            await body.receive()
        elif how == "give up":
            await body.aclose()
        else:
            body.fail(UpstreamReset("gone"))
