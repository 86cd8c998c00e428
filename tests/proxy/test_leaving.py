"""Whoever is told something while it sends can read it, on every path that leaves a client with input unread."""

from __future__ import annotations

from typing import Final

import attrs
import pytest
import trio
from trio.testing import MockClock

from tests.live import PATIENCE, Live, answering, running, upstream, web
from tests.secure import peer as secure_peer
from tests.secure import tls
from xproxy.codecs.http1.plugin import PLUGIN as HTTP1
from xproxy.codecs.http2.wire import PREFACE, settings
from xproxy.model.errors import RouteNotFound
from xproxy.model.limits import KIB
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Request, Response, error_head
from xproxy.testing.proxy import proxy_pair
from xproxy.transport.farewell import LONGEST_FAREWELL

MORE: Final = bytes(64 * KIB)
SENT: Final = 100
"""Times MORE: what is sent to whoever has answered already. No kernel buffers hold it."""


def post(fields: bytes = b"content-length: 1000000000\r\n") -> bytes:
    return b"POST /a HTTP/1.1\r\nhost: a\r\n" + fields + b"\r\n"


@attrs.frozen
class Case:
    """A way to be told something early."""

    told: bytes
    first: bytes = post()
    listener: str = ""
    secured: bool = False
    last: bytes = b""
    """What is in it besides."""


CASES: Final = {
    "by a filter": Case(
        b"HTTP/1.1 403",
        listener="    filters: [{name: direct_response, status: permission-denied}]\n",
    ),
    "too large": Case(
        b"HTTP/1.1 413", listener="    filters: [{name: body_limit, request: 1KiB}]\n"
    ),
    "too large, found while it comes": Case(
        b"HTTP/1.1 413",
        post(b"transfer-encoding: chunked\r\n") + b"10000\r\n" + MORE,
        listener="    filters: [{name: body_limit, request: 1KiB}]\n",
    ),
    "no request": Case(b"HTTP/1.1 400", b"POST /a HTTP/1.1\r\nhost : a\r\n\r\n"),
    "a head too large": Case(b"HTTP/1.1 431", post(b"x: " + bytes(b"x" * 70_000) + b"\r\n")),
    "broken chunks": Case(b"HTTP/1.1 400", post(b"transfer-encoding: chunked\r\n") + b"zz\r\n"),
    "no route": Case(
        b"HTTP/1.1 404", b"POST /a HTTP/1.1\r\nhost: b\r\ncontent-length: 999999999\r\n\r\n"
    ),
    "TLS only": Case(b"HTTP/1.1 403", listener=tls("mode: strict")),
    "by a filter, in TLS": Case(
        b"HTTP/1.1 403",
        listener=tls() + "    filters: [{name: direct_response, status: permission-denied}]\n",
        secured=True,
    ),
    # Zeros are DATA of no stream in HTTP/2, and no messages of an RPC protocol.
    "a GOAWAY": Case(b"\0\0", PREFACE + settings(()), last=b"DATA on stream 0"),
    "a GOAWAY, in TLS": Case(
        b"\0\0", PREFACE + settings(()), tls(), secured=True, last=b"DATA on stream 0"
    ),
    "Bolt": Case(
        bytes.fromhex("01 00 0002 01 00000007"),
        bytes.fromhex("01 01 0001 01 00000007 01 00000BB8 0000 0000 00000000"),
    ),
    "Dubbo": Case(
        bytes.fromhex("dabb 02 28 0000000000000001"),
        bytes.fromhex("dabb c2 00 0000000000000001 7FFFFFFF"),
        last=b"limit 16777216",
    ),
    "no request, in TLS": Case(
        b"HTTP/1.1 400", b"POST /a HTTP/1.1\r\nhost : a\r\n\r\n", tls(), secured=True
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_it_can_be_read_by_whoever_goes_on_sending(name: str) -> None:
    case = CASES[name]
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, answering())
        text = web(up.port, listener=case.listener)
        text = text.replace("    - cluster: web\n", "    - {hosts: [a], cluster: web}\n")
        async with running(text) as live:
            await told(live, case)
        nursery.cancel_scope.cancel()


async def told(live: Live, case: Case) -> None:
    client: trio.abc.Stream = await secure_peer(live) if case.secured else await live.connect()
    with trio.fail_after(PATIENCE):
        await client.send_all(case.first)
        # All of it is sent before anything is read: a reset on the way would destroy the answer, and end the sending.
        for _ in range(SENT):
            await client.send_all(MORE)
        got = b""
        while data := await client.receive_some():
            got += data
    assert got.startswith(case.told), got
    assert case.last in got
    await client.aclose()


async def not_found(request: Request) -> Response:
    request.record.local = True
    return Response(error_head(RouteNotFound("no route")), BytesBody())


@pytest.mark.parametrize(
    ("every", "until"),
    [
        (0.5, LONGEST_FAREWELL),  # it never stops
        (0.0, 1.0),  # it stops at once
    ],
)
async def test_silence_ends_it_and_no_client_makes_it_last(
    every: float, until: float, autojump_clock: MockClock
) -> None:
    async with proxy_pair(HTTP1, handler=not_found) as pair, trio.open_nursery() as nursery:
        begin = trio.current_time()
        await pair.client.send(post())

        async def go_on() -> None:
            while every:
                await trio.sleep(every)
                await pair.client.send(b"x")

        nursery.start_soon(go_on)
        await pair.ended.wait()
        assert trio.current_time() - begin == until
        nursery.cancel_scope.cancel()
