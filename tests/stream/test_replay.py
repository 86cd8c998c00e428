from __future__ import annotations

import pytest
import trio
from trio.abc import ReceiveChannel

from xproxy.model.errors import RequestBroken, StreamError
from xproxy.model.frames import Trailers
from xproxy.model.headers import Headers
from xproxy.stream.replay import Recording, ReplayedBody

END = Trailers(1, Headers((("a", "b"),)))


class Pieces(ReceiveChannel[bytes | Trailers]):
    """Gives pieces one at a time; waits for the first one where there is a gate."""

    def __init__(self, *pieces: bytes | Trailers | StreamError) -> None:
        self.pieces = list(pieces)
        self.gate: trio.Event | None = None
        self.closed = False

    async def receive(self) -> bytes | Trailers:
        if self.gate is not None:
            await self.gate.wait()
        await trio.lowlevel.checkpoint()
        if not self.pieces:
            raise trio.EndOfChannel
        piece = self.pieces.pop(0)
        if isinstance(piece, StreamError):
            raise piece
        return piece

    async def aclose(self) -> None:
        self.closed = True


async def all_of(body: ReplayedBody) -> list[bytes | Trailers]:
    found = []
    while True:
        try:
            found.append(await body.receive())
        except trio.EndOfChannel:
            return found


async def test_a_body_is_taken_again_and_again() -> None:
    recording = Recording(Pieces(b"12", b"3", END), 3)
    assert not recording.taken
    for _ in range(3):
        assert await all_of(recording.replay()) == [b"12", b"3", END]
    assert recording.replayable
    assert recording.taken


async def test_what_was_begun_goes_on_from_the_start() -> None:
    recording = Recording(Pieces(b"1", b"2", b"3"), 10)
    first = recording.replay()
    assert [await first.receive(), await first.receive()] == [b"1", b"2"]
    assert await all_of(recording.replay()) == [b"1", b"2", b"3"]


async def test_above_the_limit_it_passes_and_is_not_kept() -> None:
    recording = Recording(Pieces(b"1", b"23", b"4", b"5"), 2)
    assert await all_of(recording.replay()) == [b"1", b"23", b"4", b"5"]
    assert not recording.replayable
    assert recording.taken
    assert recording.pieces == []


async def test_one_that_was_begun_again_is_still_whole_above_the_limit() -> None:
    recording = Recording(Pieces(b"1", b"2", b"3", b"4"), 2)
    first = recording.replay()
    await first.receive()
    await first.receive()
    assert await all_of(recording.replay()) == [b"1", b"2", b"3", b"4"]


async def test_a_body_that_breaks_off_is_not_taken_again() -> None:
    recording = Recording(Pieces(b"1", RequestBroken("x")), 10)
    body = recording.replay()
    await body.receive()
    with pytest.raises(RequestBroken):
        await body.receive()
    assert not recording.replayable


async def test_a_replay_that_is_not_the_last_closes_nothing() -> None:
    inner = Pieces(b"1")
    recording = Recording(inner, 10)
    first, last = recording.replay(), recording.replay()
    await first.aclose()
    assert not inner.closed
    await last.aclose()
    assert inner.closed


async def test_a_piece_for_one_who_has_gone_comes_to_the_next() -> None:
    inner = Pieces(b"1", b"2")
    inner.gate = trio.Event()
    recording = Recording(inner, 10)
    got: list[list[bytes | Trailers]] = []

    async def take() -> None:
        got.append(await all_of(recording.replay()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(recording.replay().receive)  # an upload that nobody stopped yet
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        inner.gate.set()
    assert got == [[b"1", b"2"]]


async def test_cancelled_while_it_waits_nothing_is_lost() -> None:
    inner = Pieces(b"1")
    inner.gate = trio.Event()
    recording = Recording(inner, 10)
    with trio.move_on_after(0):
        await recording.replay().receive()
    inner.gate.set()
    assert await all_of(recording.replay()) == [b"1"]


async def test_closing_closes_the_body() -> None:
    inner = Pieces()
    await Recording(inner, 1).replay().aclose()
    assert inner.closed


async def test_what_is_kept_to_be_taken_again_is_counted() -> None:
    kept: list[int] = []
    recording = Recording(Pieces(b"1", b"23", b"4"), 3, kept.append)
    assert await all_of(recording.replay()) == [b"1", b"23", b"4"]
    assert kept == [1, 2], "what is above the limit is not kept"


async def test_one_that_was_left_takes_nothing_from_the_one_in_its_place() -> None:
    pieces = Pieces(b"12", b"3456", b"7")
    recording = Recording(pieces, 3)
    left = recording.replay()
    assert await left.receive() == b"12"
    pieces.gate = trio.Event()
    got: list[bytes | Trailers] = []

    async def wait_on() -> None:
        # It gets the piece, or hears that it is out of it; either way its request has failed.
        try:
            got.append(await left.receive())
        except RequestBroken:
            got.append(b"")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_on)
        await trio.testing.wait_all_tasks_blocked()
        anew = recording.replay()
        assert await anew.receive() == b"12"
        pieces.gate.set()
        assert await all_of(anew) == [b"3456", b"7"]
    assert got in ([b"3456"], [b""])
    with pytest.raises(RequestBroken):
        await left.receive()
