"""What an upstream said before it closed in the middle of a request reaches the client, in every run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import pytest
import trio

from tests.http2_peer import Http2Peer
from tests.live import PATIENCE, Live, running, upstream, web
from tests.secure import ca
from tests.upstream.test_origination import served
from xproxy.model.limits import KIB, MIB

SAID: Final = (
    b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge"
)
SIZES: Final = [200 * KIB, 20_000 * KIB]
Serve = Callable[[trio.SocketStream], Awaitable[None]]


async def refuse(stream: trio.abc.Stream) -> None:
    """Answer once the head is there and close, with all of the rest unread."""
    head = b""
    while b"\r\n\r\n" not in head:
        data = await stream.receive_some(1024)
        assert data
        head += bytes(data)
    await stream.send_all(SAID)


async def refuse_in_clear(stream: trio.SocketStream) -> None:
    await refuse(stream)
    await stream.aclose()


async def refuse_in_tls(stream: trio.SocketStream) -> None:
    secure = trio.SSLStream(stream, served("127.0.0.1"), server_side=True)
    await secure.do_handshake()
    await refuse(secure)
    with trio.move_on_after(1):
        await secure.aclose()


async def refuse_in_frames(stream: trio.SocketStream) -> None:
    peer = Http2Peer(stream, client=False)
    await peer.until(lambda: peer.messages and next(iter(peer.messages.values())).fields)
    stream_id = next(iter(peer.messages))
    await peer.answer(stream_id, b"large", code=413)
    peer.h2.reset_stream(stream_id, 0)
    peer.h2.close_connection()
    await peer.flush()
    await stream.aclose()


KINDS: Final[dict[str, tuple[Serve, dict[str, str]]]] = {
    "plain": (refuse_in_clear, {}),
    "tls": (refuse_in_tls, {"tls": f"{{ca: {ca()}}}"}),
    "http2": (refuse_in_frames, {"codec": "http2"}),
    "one at a time": (refuse_in_clear, {"connections": "bound"}),
}


async def uploaded(live: Live, size: int, *, chunked: bool, wanted: bytes) -> bytes:
    """Send a large request to its end, or as far as it goes; return all that came."""
    client = await trio.open_tcp_stream("127.0.0.1", live.port())
    framing = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % size

    async def send() -> None:
        try:
            await client.send_all(
                b"POST /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n" + framing + b"\r\n\r\n"
            )
            piece = bytes(100 * KIB)
            for _ in range(size // len(piece)):
                await client.send_all(b"19000\r\n" + piece + b"\r\n" if chunked else piece)
        except trio.BrokenResourceError:
            pass  # it was told all that it needs to know

    got = b""
    async with client, trio.open_nursery() as nursery:
        nursery.start_soon(send)
        with trio.fail_after(PATIENCE):
            while not got.endswith(wanted):
                data = await client.receive_some()  # raises where it was reset
                assert data, got
                got += data
            # It goes on sending, and is not reset for that.
            assert await client.receive_some() == b""
        nursery.cancel_scope.cancel()
    return got


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_refused_upload_is_told_so_every_time(kind: str, size: int, chunked: bool) -> None:
    serve, options = KINDS[kind]
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, serve)
        async with running(web(up.port, **options)) as live:
            for _ in range(20 if size < MIB else 5):
                got = await uploaded(live, size, chunked=chunked, wanted=b"large")
                assert got.startswith(b"HTTP/1.1 413 "), got
            stats = live.cluster().stats
            assert stats.endpoint_failing == 0
            assert stats.upstream_rq_resent == 0
            await live.settled(upstreams=0)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("size", SIZES)
async def test_so_is_whoever_is_relayed_as_it_is(size: int) -> None:
    async def last(stream: trio.SocketStream) -> None:
        await stream.receive_some(1024)
        await stream.send_all(b"no more of this")
        await stream.aclose()

    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, last)
        text = web(up.port, listener="    codecs: [opaque]\n", codec="opaque")
        async with running(text) as live:
            for _ in range(20 if size < MIB else 5):
                client = await trio.open_tcp_stream("127.0.0.1", live.port())
                async with client, trio.open_nursery() as sending:

                    async def send(client: trio.SocketStream = client) -> None:
                        try:
                            await client.send_all(bytes(size))
                        except trio.BrokenResourceError:
                            pass

                    sending.start_soon(send)
                    got = b""
                    with trio.fail_after(PATIENCE):
                        while len(got) < 15:
                            data = await client.receive_some()
                            assert data, got
                            got += data
                    assert got == b"no more of this"
                    sending.cancel_scope.cancel()
        nursery.cancel_scope.cancel()
