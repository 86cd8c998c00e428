"""Clusters that say nothing of what their endpoints speak."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.http2_peer import Http2Peer
from tests.live import eventually, http_response, running, upstream, web
from xproxy.codecs.http2.wire import PREFACE, settings
from xproxy.codecs.other_protocol import HERE
from xproxy.registry import default_registry
from xproxy.testing import Party
from xproxy.upstream.untold import Untold

INSTALLED = default_registry()
HTTP1, HTTP2, BOLT = (INSTALLED.codec(name) for name in ("http1", "http2", "bolt"))


@pytest.mark.parametrize("secured", [False, True])
def test_the_choice(secured: bool) -> None:
    untold = Untold(HTTP1, {"grpc": HTTP2}, secured=secured)
    assert untold.of("grpc", HTTP1.traits) is HTTP2
    assert untold.of("grpc", HTTP2.traits) is HTTP2
    assert untold.of("http1", HTTP1.traits) is HTTP1
    assert untold.of("http2", HTTP2.traits) is (None if secured else HTTP1)
    assert untold.offers(HTTP2.traits) is secured
    assert untold.of("bolt", BOLT.traits) is None
    assert not untold.offers(BOLT.traits)


async def test_a_client_of_http2_reaches_an_ordinary_web_server() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client = Http2Peer(await live.connect(), client=True)
        asked = await client.ask("/x")
        server = Party("upstream", await up.accept())
        await server.expect(b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n")
        await server.send(http_response(b"hello"))
        assert (await client.whole(asked)).body == b"hello"


async def test_a_call_goes_on_in_what_it_was_made_for() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client = Http2Peer(await live.connect(), client=True)
        await client.ask("/p.S/M", "POST", b"\0\0\0\0\0", (("content-type", "application/grpc"),))
        stream = await up.accept()
        assert (await stream.receive_some(24)) == PREFACE
        # Beside it, an ordinary request still goes the ordinary way.
        await client.ask("/x")
        server = Party("upstream", await up.accept())
        await server.expect(b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n")


async def test_what_is_told_is_done() -> None:
    async with upstream() as up, running(web(up.port, codec="same")) as live:
        client = Http2Peer(await live.connect(), client=True)
        await client.ask("/x")
        assert (await (await up.accept()).receive_some(24)) == PREFACE


@pytest.mark.parametrize(
    ("codec", "answer", "remedy"),
    [
        ("http2", b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n", "`codec: http1`"),
        ("http1", settings([]), "`codec: http2`"),
        ("http1", b"\x15\x03\x03\x00\x02\x02\x46", "`tls`"),
    ],
)
async def test_who_answers_in_another_protocol_is_named_with_the_remedy(
    codec: str, answer: bytes, remedy: str, tmp_path: Path
) -> None:
    text = web(
        0,
        codec=codec,
        listener="    filters: [{name: access_log, path: LOG, template: '%detail%'}]\n",
    )
    log = tmp_path / "log"
    async with upstream() as up:
        text = text.replace("127.0.0.1:0]", f"127.0.0.1:{up.port}]").replace("LOG", str(log))
        async with running(text) as live:
            client = await live.client()
            await client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            stream = await up.accept()
            await stream.receive_some(1000)
            await stream.send_all(answer)
            await client.expect(b"HTTP/1.1 502 ")
            await eventually(lambda: log.exists() and bool(log.read_text()), "a line")
    said = log.read_text()
    assert f"set {remedy} on cluster web" in said
    assert HERE not in said
