"""Pieces pass, and the end is told once, whichever it is."""

from __future__ import annotations

import re

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.abc import ReceiveChannel
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.connection.rpc import ASK, OK, talk
from xproxy.api import (
    Body,
    BodyEnding,
    BodyTooLarge,
    Broke,
    Complete,
    GivenUp,
    Handler,
    Request,
    Response,
    WrappedBody,
)
from xproxy.codecs.http1.plugin import PLUGIN as HTTP1
from xproxy.model.errors import StreamError, UpstreamReset
from xproxy.model.frames import Data, Head, Reset, Trailers
from xproxy.model.headers import NO_HEADERS
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.stream.ending import COMPLETE, GIVEN_UP
from xproxy.testing import proxy_pair
from xproxy.testing.fakes import PIECES

END = Trailers(1, NO_HEADERS)


class Pieces(ReceiveChannel[bytes | Trailers]):
    """Gives pieces; raises exceptions among them; an Event is waited for once."""

    def __init__(self, *pieces: bytes | Trailers | Exception | trio.Event) -> None:
        self.pieces = list(pieces)
        self.closed = 0

    async def receive(self) -> bytes | Trailers:
        while self.pieces:
            piece = self.pieces[0]
            if isinstance(piece, trio.Event):
                await piece.wait()
            del self.pieces[0]
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, bytes | Trailers):
                return piece
        raise trio.EndOfChannel

    async def aclose(self) -> None:
        self.closed += 1


class Told(WrappedBody):
    """Writes down how it ended."""

    def __init__(self, *pieces: bytes | Trailers | Exception | trio.Event) -> None:
        self.source = Pieces(*pieces)
        super().__init__(self.source)
        self.told: list[BodyEnding] = []

    def ended(self, how: BodyEnding) -> None:
        self.told.append(how)


async def pieces_of(body: Body) -> list[bytes | Trailers]:
    found = []
    while True:
        try:
            found.append(await body.receive())
        except trio.EndOfChannel:
            return found


async def test_a_body_passes_as_it_is_and_its_end_is_told() -> None:
    body = Told(b"1", b"2")
    assert await pieces_of(body) == [b"1", b"2"]
    assert body.told == [COMPLETE]
    body.give_up()
    await body.aclose()
    assert await pieces_of(body) == []
    assert body.told == [COMPLETE]
    assert body.source.closed == 1


async def test_trailers_are_the_end() -> None:
    body = Told(b"1", END)
    assert await body.receive() == b"1"
    assert body.told == []
    assert await body.receive() is END
    assert body.told == [Complete(END)]
    assert await pieces_of(body) == []


async def test_a_failure_is_told_and_stays() -> None:
    error = UpstreamReset("gone")
    body = Told(b"1", error, b"2")
    assert await body.receive() == b"1"
    for _ in range(2):
        with pytest.raises(UpstreamReset, match="gone"):
            await body.receive()
    assert body.told == [Broke(error)]
    assert body.failure is not None
    assert body.failure.detail == "gone"
    assert body.failure is not error  # which knows the frames that it came through


async def test_a_bug_further_in_is_told_as_what_it_is() -> None:
    bug = ValueError("bug")
    body = Told(bug)
    with pytest.raises(ValueError, match="bug"):
        await body.receive()
    with pytest.raises(StreamError, match="ValueError in a body"):
        await body.receive()  # and never as an end
    (how,) = body.told
    assert isinstance(how, Broke)
    assert (how.error.status, how.bug) == (Status.INTERNAL, bug)


async def test_what_is_given_up_is_told_once() -> None:
    body = Told(b"1")
    body.give_up()
    await body.aclose()
    await body.aclose()
    assert body.told == [GIVEN_UP]
    assert body.source.closed == 2
    with pytest.raises(trio.ClosedResourceError):
        await body.receive()


async def test_who_is_cancelled_may_go_on(autojump_clock: MockClock) -> None:
    gate = trio.Event()
    body = Told(b"1", gate, b"2")
    assert await body.receive() == b"1"
    with trio.move_on_after(1):
        await body.receive()
    assert body.told == []
    gate.set()
    assert await pieces_of(body) == [b"2"]
    assert body.told == [COMPLETE]


class Upper(WrappedBody):
    """Drops dots and trailers, makes the rest large, and refuses question marks; an end must not be odd."""

    size = 0

    def piece(self, piece: bytes | Trailers) -> bytes | Trailers:
        if isinstance(piece, Trailers):
            return b""
        if b"?" in piece:
            raise BodyTooLarge("a question")
        self.size += len(piece)
        return piece.replace(b".", b"").upper()

    def ended(self, how: BodyEnding) -> None:
        if isinstance(how, Complete) and self.size % 2:
            raise StreamError("odd")


async def test_pieces_are_changed_and_dropped() -> None:
    assert await pieces_of(Upper(Pieces(b"a.", b"..", b"bc", END))) == [b"A", b"BC"]


async def test_a_refusal_in_the_middle_breaks_it_off() -> None:
    body = Upper(Pieces(b"ab", b"?", b"cd"))
    assert await body.receive() == b"AB"
    for _ in range(2):
        with pytest.raises(BodyTooLarge):
            await body.receive()


@pytest.mark.parametrize("last", [(), (END,)])
async def test_a_refusal_comes_in_the_place_of_the_end(last: tuple[Trailers, ...]) -> None:
    body = Upper(Pieces(b"a", *last))
    assert await body.receive() == b"A"
    for _ in range(2):
        with pytest.raises(StreamError, match="odd"):
            await body.receive()
    body.give_up()


class Last(WrappedBody):
    """Trailers that are bytes."""

    def piece(self, piece: bytes | Trailers) -> bytes:
        return b"end" if isinstance(piece, Trailers) else piece


async def test_trailers_may_become_the_last_piece() -> None:
    assert await pieces_of(Last(Pieces(b"1", END, b"never"))) == [b"1", b"end"]


EVENTS = st.lists(st.sampled_from(["receive", "cancel", "close", "give up"]), max_size=8)
CONTENT = st.lists(st.binary(min_size=1, max_size=2), max_size=3)
LAST = st.sampled_from([None, END, UpstreamReset("x"), ValueError("x")])


@given(CONTENT, LAST, EVENTS)
def test_the_end_is_told_exactly_once(
    content: list[bytes], last: Trailers | Exception | None, events: list[str]
) -> None:
    async def main() -> None:
        body = Told(*content, *(() if last is None else (last,)))
        outer = Told()
        outer.inner = body
        for event in [*events, "close"]:
            try:
                match event:
                    case "receive":
                        await outer.receive()
                    case "cancel":
                        body.source.pieces.insert(0, trio.Event())
                        with trio.CancelScope() as scope:
                            scope.cancel()
                            await outer.receive()
                        if body.source.pieces and isinstance(body.source.pieces[0], trio.Event):
                            del body.source.pieces[0]
                    case "close":
                        await outer.aclose()
                    case _:
                        outer.give_up()
            except (trio.EndOfChannel, trio.ClosedResourceError, StreamError, ValueError):
                pass
        assert len(body.told) == len(outer.told) == 1
        # Further out it ends as further in, unless it was given up there.
        how, further_in = type(outer.told[0]), type(body.told[0])
        assert how is further_in or GivenUp in (how, further_in)

    trio.run(main)


# ---- a user's filter


BROKEN: list[str] = []


class Watched(WrappedBody):
    def ended(self, how: BodyEnding) -> None:
        if isinstance(how, Broke):
            BROKEN.append(str(how.error))


async def watching(request: Request, call_next: Handler) -> Response:
    response = await call_next(request)
    response.body = Watched(response.body)
    return response


async def test_a_filter_of_ten_lines_learns_how_its_answers_end() -> None:
    async def ask(*pieces: bytes | StreamError) -> Response:
        async def upstream(_: Request) -> Response:
            return Response(ResponseHead(status=Status.OK), Pieces(*pieces))

        return await watching(Request.__new__(Request), upstream)

    response = await ask(b"12", b"3")
    assert await pieces_of(response.body) == [b"12", b"3"]
    await response.aclose()
    response = await ask(b"4", UpstreamReset("gone"))
    assert await response.body.receive() == b"4"
    with pytest.raises(UpstreamReset):
        await response.body.receive()
    assert BROKEN == ["gone"]


async def test_a_response_that_is_closed_gives_its_body_up() -> None:
    body = Told(b"1", b"2")
    response = Response(ResponseHead(status=Status.OK), body)
    await body.receive()
    await response.aclose()
    await response.aclose()
    assert body.told == [GIVEN_UP]


# ---- on a connection


@pytest.mark.parametrize("more", [b"", b"half"])
async def test_a_stream_that_ends_early_gives_both_bodies_up(
    autojump_clock: MockClock, more: bytes
) -> None:
    asked: list[Told] = []
    answered = Told(b"1", trio.Event())

    async def handle(request: Request) -> Response:
        if more:
            request.body = body = Told()
            body.inner = body.source = Pieces(b"x", trio.Event())
            asked.append(body)
            await request.body.receive()
        return Response(OK, answered)

    async with proxy_pair(PIECES, handler=handle) as pair:
        client = talk(pair.client, Role.CLIENT)
        await client.send(Head(1, ASK, more, not more))
        assert isinstance(await client.next(), Head)
        assert await client.next() == Data(1, b"1")
        await client.send(Reset(1, Status.CANCELLED))
        await wait_all_tasks_blocked()
        assert answered.told == [GIVEN_UP]
        assert [body.told for body in asked] == [[GIVEN_UP]] * bool(more)


@pytest.mark.parametrize("length", [0, 5])
async def test_likewise_where_there_is_one_stream_at_a_time(
    autojump_clock: MockClock, length: int
) -> None:
    asked: list[Told] = []
    answered = Told(b"1", trio.Event())

    async def handle(request: Request) -> Response:
        if length:
            request.body = body = Told()
            body.inner = body.source = Pieces(b"x", trio.Event())
            asked.append(body)
        return Response(ResponseHead(status=Status.OK, native_status=200), answered)

    async with proxy_pair(HTTP1, handler=handle) as pair:
        await pair.client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % length)
        await pair.client.expect(re.compile(rb".*\r\n\r\n1\r\n1\r\n", re.DOTALL))
        await pair.client.aclose()
        await wait_all_tasks_blocked()
        assert answered.told == [GIVEN_UP]
        assert [body.told for body in asked] == [[GIVEN_UP]] * bool(length)
