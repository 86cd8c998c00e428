"""What an answer in pieces says of its attempt, by how it ended."""

from __future__ import annotations

import pytest
import trio
from trio.abc import ReceiveChannel

from tests.attempts import attempts_of
from xproxy.model.address import Address
from xproxy.model.errors import StreamError, UpstreamReset
from xproxy.model.frames import Trailers
from xproxy.model.headers import NO_HEADERS, Headers
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.stream.ending import ANSWERED, GIVEN_UP, Answered, Broke, GivenUp
from xproxy.upstream.attempt import Attempt
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.outcome import OutcomeBody, end_unseen

GRPC = ResponseHead(
    status=Status.OK,
    native_status=200,
    headers=Headers((("content-type", "application/grpc"),)),
)


class Pieces(ReceiveChannel[bytes | Trailers]):
    def __init__(self, *pieces: bytes | Trailers | StreamError) -> None:
        self.pieces = list(pieces)
        self.closed = False
        self.failure: StreamError | None = None

    async def receive(self) -> bytes | Trailers:
        if not self.pieces:
            raise trio.EndOfChannel
        piece = self.pieces.pop(0)
        if isinstance(piece, StreamError):
            self.failure = piece
            raise piece
        return piece

    async def aclose(self) -> None:
        self.closed = True


async def begin() -> Attempt:
    attempt = Attempt(attempts_of(), Endpoint(Address("192.0.2.9", 1)), None)
    attempt.goes_on(None, lambda: None)
    return attempt


async def read_on(body: ReceiveChannel[bytes | Trailers]) -> None:
    try:
        while True:
            await body.receive()
    except (trio.EndOfChannel, StreamError):
        pass


@pytest.mark.parametrize(
    ("last", "status"),
    [
        (Trailers(1, NO_HEADERS, Status.UNAVAILABLE), Status.UNAVAILABLE),
        (Trailers(1, NO_HEADERS, Status.OK), Status.OK),
        (Trailers(1, NO_HEADERS), Status.OK),
        (None, Status.UNKNOWN),
        (UpstreamReset("x"), Status.UNAVAILABLE),
        (UpstreamReset("x", Status.CANCELLED), Status.CANCELLED),
    ],
)
async def test_how_a_call_ended(last: Trailers | StreamError | None, status: Status) -> None:
    attempt = await begin()
    pieces = Pieces(b"1") if last is None else Pieces(b"1", last)
    body = OutcomeBody(pieces, attempt, GRPC, opaque=False)
    assert await body.receive() == b"1"
    assert attempt.how is None
    await read_on(body)
    body.give_up()
    assert attempt.status is status
    assert isinstance(attempt.how, Broke if isinstance(last, StreamError) else Answered)


async def test_one_that_is_given_up_is_cancelled() -> None:
    attempt, inner = await begin(), Pieces(b"1")
    body = OutcomeBody(inner, attempt, GRPC, opaque=False)
    body.give_up()
    await body.aclose()
    assert attempt.how is GIVEN_UP
    assert attempt.status is Status.CANCELLED
    assert inner.closed


@pytest.mark.parametrize("call", [True, False])
async def test_bytes_that_nobody_understands_may_end_in_any_way(call: bool) -> None:
    attempt, inner = await begin(), Pieces(UpstreamReset("x"))
    if call:
        await read_on(OutcomeBody(inner, attempt, GRPC, opaque=True))
    else:
        await read_on(inner)
        end_unseen(attempt, inner, GRPC, opaque=True)
    assert isinstance(attempt.how, GivenUp)
    assert attempt.status is Status.UNAVAILABLE
    assert not attempt.failed


@pytest.mark.parametrize("read", [True, False])
async def test_the_head_speaks_where_nobody_looked_into_the_body(read: bool) -> None:
    attempt, inner = await begin(), Pieces(b"1")
    head = ResponseHead(status=Status.NOT_FOUND, native_status=404)
    if read:
        await read_on(inner)
    end_unseen(attempt, inner, head, opaque=False)
    assert attempt.how is ANSWERED[Status.NOT_FOUND]


async def test_unless_it_broke() -> None:
    attempt, inner = await begin(), Pieces(b"1", UpstreamReset("x"))
    await read_on(inner)
    end_unseen(attempt, inner, GRPC, opaque=False)
    assert isinstance(attempt.how, Broke)
