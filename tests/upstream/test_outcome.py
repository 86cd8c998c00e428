from __future__ import annotations

import pytest
import trio
from trio.abc import ReceiveChannel

from xproxy.model.errors import StreamError, UpstreamReset
from xproxy.model.frames import Trailers
from xproxy.model.headers import NO_HEADERS
from xproxy.model.status import Status
from xproxy.upstream.outcome import OutcomeBody


class Pieces(ReceiveChannel[bytes | Trailers]):
    def __init__(self, *pieces: bytes | Trailers | StreamError) -> None:
        self.pieces = list(pieces)
        self.closed = False

    async def receive(self) -> bytes | Trailers:
        if not self.pieces:
            raise trio.EndOfChannel
        piece = self.pieces.pop(0)
        if isinstance(piece, StreamError):
            raise piece
        return piece

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("last", "status"),
    [
        (Trailers(1, NO_HEADERS, Status.UNAVAILABLE), Status.UNAVAILABLE),
        (Trailers(1, NO_HEADERS, Status.OK), Status.OK),
        (Trailers(1, NO_HEADERS), Status.UNKNOWN),
        (None, Status.DATA_LOSS),
        (UpstreamReset("x"), Status.UNAVAILABLE),
        (UpstreamReset("x", Status.CANCELLED), Status.CANCELLED),
    ],
)
async def test_how_it_ended_is_told_once(
    last: Trailers | StreamError | None, status: Status
) -> None:
    told: list[Status] = []
    errors: list[StreamError | None] = []

    def tell(status: Status, error: StreamError | None) -> None:
        told.append(status)
        errors.append(error)

    pieces = Pieces(b"1") if last is None else Pieces(b"1", last)
    body = OutcomeBody(pieces, Status.UNKNOWN, Status.DATA_LOSS, tell)
    assert await body.receive() == b"1"
    assert told == []
    try:
        while True:
            await body.receive()
    except (trio.EndOfChannel, UpstreamReset):
        pass
    body.give_up()
    assert told == [status]
    assert errors == [last if isinstance(last, StreamError) else None]


async def test_one_that_is_given_up_is_cancelled() -> None:
    told: list[Status] = []
    inner = Pieces(b"1")
    body = OutcomeBody(inner, Status.OK, Status.OK, lambda status, _: told.append(status))
    body.give_up()
    await body.aclose()
    assert told == [Status.CANCELLED]
    assert inner.closed
