"""Large bodies over HTTP/2 with a slow reader, both ways: the proxy holds what the windows allow, and no more."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import h2.settings
import pytest
import trio

from tests.http2_peer import Http2Peer
from tests.process.product import LOAD_SECONDS, PATIENCE, Product, product, unused_port
from tests.process.upstreams import pieces, upstream

pytestmark = pytest.mark.slow

MIB: Final = 1 << 20
SIZE: Final = (200 if LOAD_SECONDS > 2 else 40) * MIB
WINDOW: Final = 1 * MIB
GROWTH: Final = SIZE // 2
"""Of two hops: for each a window, an outbox and a read, whatever the size, and what the allocator keeps. Without
windows it is all that is sent."""
CODEC: Final = "{name: http2, stream_window_bytes: 1MiB, connection_window_bytes: 2MiB}"
QUIET: Final = 0.3
"""Seconds without growth after which the proxy counts as full."""


def configuration(web: int, inner: int) -> str:
    """``/inner/…`` goes by HTTP/2 to a second listener; the rest straight to the upstream, by HTTP/1.1."""
    return (
        "listeners:\n"
        f"  - {{name: edge, address: '127.0.0.1:0', routes: main, codecs: [auto, {CODEC}]}}\n"
        f"  - {{name: inner, address: '127.0.0.1:{inner}', routes: inner, codecs: [auto, {CODEC}]}}\n"
        "routes:\n"
        "  main:\n"
        "    - {match: {headers: {x-hop: two}}, cluster: inner, timeout: 0}\n"
        "    - {cluster: web, timeout: 0}\n"
        "  inner: [{cluster: web, timeout: 0}]\n"
        "clusters:\n"
        f"  web: {{endpoints: ['127.0.0.1:{web}'], codec: http1}}\n"
        f"  inner: {{endpoints: ['127.0.0.1:{inner}'], codec: {CODEC}}}\n"
    )


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with upstream("web") as web:
        text = configuration(web, unused_port())
        with product(text, tmp_path_factory.mktemp("bulk")) as found:
            yield found


@asynccontextmanager
async def connected(port: int, *, window: int) -> AsyncIterator[Http2Peer]:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        settings = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
        peer = Http2Peer(stream, client=True, settings=settings)
        yield peer


async def full(proxy: Product) -> int:
    """Wait until the proxy takes nothing more; return what it holds then."""
    most, since = proxy.resident, trio.current_time()
    while trio.current_time() < since + QUIET:
        await trio.sleep(0.02)
        if proxy.resident > most:
            most, since = proxy.resident, trio.current_time()
    return most


HOPS: Final = {"to HTTP/1.1": (), "to HTTP/2": (("x-hop", "two"),)}


@pytest.mark.parametrize("hops", HOPS)
async def test_a_client_that_does_not_read(hops: str, proxy: Product) -> None:
    async with connected(proxy.port, window=65_535) as peer:
        before = proxy.resident
        peer.reads = False
        stream_id = await peer.ask(f"/size/{SIZE}", extra=HOPS[hops])
        await peer.until(
            lambda: stream_id in peer.messages and len(peer.messages[stream_id].body) == 65_535,
            "a window full",
        )
        assert await full(proxy) < before + GROWTH
        # And then, slowly at first, all of it.
        digest, size = hashlib.sha256(peer.messages[stream_id].body), 65_535
        peer.messages[stream_id].body = b""
        peer.reads = True
        peer.h2.acknowledge_received_data(65_535, stream_id)
        message = peer.messages[stream_id]
        most = 0
        while not message.ended:
            await peer.more()
            digest.update(message.body)
            size += len(message.body)
            message.body = b""
            if size % (4 * MIB) < MIB:
                most = max(most, proxy.resident)
        assert size == SIZE
        assert digest.hexdigest() == expected()
        assert most < before + GROWTH
    with trio.fail_after(PATIENCE):
        while any("_rq_" in leak for leak in proxy.leaks()):  # noqa: ASYNC110  # counters wake nobody
            await trio.sleep(0.02)


def expected() -> str:
    digest = hashlib.sha256()
    for piece in pieces(SIZE):
        digest.update(piece)
    return digest.hexdigest()


@pytest.mark.parametrize("hops", HOPS)
async def test_an_upstream_that_does_not_read(hops: str, tmp_path: Path) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    # What is accepted has it too: else the kernel could take the whole upload.
    listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    port = listener.socket.getsockname()[1]
    with product(configuration(port, unused_port()), tmp_path) as proxy:
        async with (
            listener,
            connected(proxy.port, window=65_535) as peer,
            trio.open_nursery() as nursery,
        ):
            before = proxy.resident
            fields = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")]
            length = ("content-length", str(SIZE))
            stream_id = peer.h2.get_next_available_stream_id()
            peer.h2.send_headers(stream_id, [*fields, length, *HOPS[hops]])
            await peer.flush()
            sent = 0

            async def upload() -> None:
                nonlocal sent
                body = pieces(SIZE)
                left = b""
                while sent < SIZE:
                    left = left or next(body)
                    room = min(peer.h2.local_flow_control_window(stream_id), 16_384, len(left))
                    if room == 0:
                        await peer.more()
                        continue
                    piece, left = left[:room], left[room:]
                    sent += room
                    peer.h2.send_data(stream_id, piece, end_stream=sent == SIZE)
                    await peer.flush()

            nursery.start_soon(upload)
            server = await listener.accept()
            # The kernel takes some of it; the windows of one hop or two take the rest.
            assert await full(proxy) < before + GROWTH
            assert sent < SIZE
            head, received, digest = b"", 0, hashlib.sha256()
            while b"\r\n\r\n" not in head:
                head += await server.receive_some(65_536)
            head, _, first = head.partition(b"\r\n\r\n")
            assert f"content-length: {SIZE}".encode() in head.lower()
            digest.update(first)
            received = len(first)
            while received < SIZE:
                data = await server.receive_some(1 << 18)
                digest.update(data)
                received += len(data)
            assert digest.hexdigest() == expected()
            assert proxy.resident < before + GROWTH
            await server.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            assert (await peer.whole(stream_id))[":status"] == "200"
            await server.aclose()
