from __future__ import annotations

import pytest
import trio

from xproxy.model.errors import BodyTooLarge
from xproxy.model.frames import Trailers
from xproxy.model.headers import Headers
from xproxy.stream.body import Body, BytesBody, read_whole

TRAILERS = Trailers(1, Headers([("a", "b")]))


async def drain(body: Body) -> list[bytes | Trailers]:
    pieces: list[bytes | Trailers] = []
    while True:
        try:
            pieces.append(await body.receive())
        except trio.EndOfChannel:
            return pieces


@pytest.mark.parametrize(
    ("body", "pieces"),
    [
        (BytesBody(), []),
        (BytesBody(b"x"), [b"x"]),
        (BytesBody(b"x", TRAILERS), [b"x", TRAILERS]),
        (BytesBody(b"", TRAILERS), [TRAILERS]),
    ],
)
async def test_a_whole_body_is_a_channel_that_can_be_read_again(
    body: BytesBody, pieces: list[bytes | Trailers]
) -> None:
    assert await drain(body) == pieces
    assert await drain(body) == []
    assert await drain(body.replay()) == pieces
    await body.aclose()


async def pieces_of(*pieces: bytes | Trailers) -> Body:
    send, receive = trio.open_memory_channel[bytes | Trailers](len(pieces))
    for piece in pieces:
        await send.send(piece)
    await send.aclose()
    return receive


async def test_reading_whole_joins_pieces_and_keeps_trailers() -> None:
    whole = await read_whole(await pieces_of(b"ab", b"", b"c", TRAILERS), 3)
    assert (whole.data, whole.trailers) == (b"abc", TRAILERS)


async def test_reading_whole_stops_at_the_limit() -> None:
    body = await pieces_of(b"ab", b"cd", b"never read")
    with pytest.raises(BodyTooLarge, match="above 3 bytes"):
        await read_whole(body, 3)
    assert await body.receive() == b"never read"
    await body.aclose()
    with pytest.raises(BodyTooLarge, match="4 bytes, limit 3"):
        await read_whole(BytesBody(b"abcd"), 3)


async def test_a_body_that_is_whole_already_is_not_copied() -> None:
    body = BytesBody(b"abc")
    assert await read_whole(body, 3) is body
