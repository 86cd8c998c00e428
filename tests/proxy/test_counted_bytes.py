"""Bytes of real sockets: TLS counts what is inside it, bulk that goes through the kernel counts as any other."""

from __future__ import annotations

import pytest
import trio

from tests.live import PATIENCE, Live, eventually, running, upstream, web
from tests.secure import peer, tls

SIZE = 5_000_000
RAW = "    fallback: {cluster: web}\n"


async def echo(stream: trio.SocketStream) -> None:
    """Send back every body, whether there is HTTP round it or not."""
    data = await stream.receive_some(65536)
    left = SIZE
    if data.startswith(b"POST "):
        while b"\r\n\r\n" not in data:
            data += await stream.receive_some(65536)
        data = data.partition(b"\r\n\r\n")[2]
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
    while True:
        left -= len(data)
        await stream.send_all(data)
        if left <= 0:
            return
        data = await stream.receive_some(65536)


async def talk(stream: trio.abc.Stream, request: bytes) -> tuple[int, int]:
    """Send a request and read its answer; return how many bytes went and came."""
    came, whole, start = 0, SIZE, b""

    async def send() -> None:
        await stream.send_all(request)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        with trio.fail_after(PATIENCE):
            while came < whole:
                data = await stream.receive_some(262144)
                assert data
                came += len(data)
                start += data if len(start) < 1000 else b""
                if request.startswith(b"POST") and b"\r\n\r\n" in start:
                    whole = SIZE + start.index(b"\r\n\r\n") + 4
    return len(request), came


def counted(live: Live) -> tuple[int, int]:
    stats = live.stats()
    return stats.downstream_rx_bytes_total, stats.downstream_tx_bytes_total


HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % SIZE


@pytest.mark.parametrize(
    ("listener", "request_"),
    [
        pytest.param("", HEAD + bytes(SIZE), id="http1"),
        pytest.param(RAW, bytes(SIZE), id="L4"),
        pytest.param("    proxy_protocol: true\n" + RAW, bytes(SIZE), id="PROXY"),
        pytest.param(tls(), HEAD + bytes(SIZE), id="http1 in TLS"),
        pytest.param(tls() + RAW, bytes(SIZE), id="L4 in TLS"),
    ],
)
async def test_what_a_client_counts_is_what_we_count(listener: str, request_: bytes) -> None:
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, echo)
        async with running(web(up.port, listener=listener)) as live:
            header = b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" if "proxy_protocol" in listener else b""
            if "tls:" in listener:
                stream: trio.abc.Stream = await peer(live)
            else:
                stream = await live.connect()
                await stream.send_all(header)
            sent, came = await talk(stream, request_)
            await eventually(lambda: counted(live) == (sent, came), f"{(sent, came)} are counted")
            live.hang_up_all()
            await live.settled()
            assert counted(live) == (sent, came)
        nursery.cancel_scope.cancel()


async def test_bytes_that_nobody_understands_are_counted() -> None:
    async with running(web(1)) as live:
        client = await live.connect()
        await client.send_all(b"\x00nothing that anybody knows")
        with trio.fail_after(PATIENCE):
            while await client.receive_some(100):
                pass
        assert counted(live) == (27, 0)
