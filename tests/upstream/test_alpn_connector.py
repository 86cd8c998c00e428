"""``codec: alpn``: each endpoint's choice in TLS decides, request by request."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator

import pytest
import trio

from tests.live import GET, Live, eventually, http_response, running, unused_port, upstream, web
from tests.secure import ca, tls
from tests.upstream.test_origination import served
from xproxy.testing import Party

HEAD = re.compile(rb"HTTP/1.1 200 OK\r\n.*\r\n\r\n", re.DOTALL)


@contextlib.asynccontextmanager
async def behind(codecs: str, more: str = "") -> AsyncIterator[Live]:
    """Run a proxy whose upstream is its own other listener, which tells the protocol that it was asked in."""
    port = unused_port()
    text = web(port, codec="alpn", tls=f"{{ca: {ca()}, sni: edge.test}}", idle_timeout="1m")
    inner = f"  - name: inner\n    address: 127.0.0.1:{port}\n    routes: inner\n    codecs: {codecs}\n{tls()}"
    answer = "{name: direct_response, headers: {x-spoken: yes}}"
    echo = "{name: headers, response: {set: {x-inner: '%protocol%'}}}"
    text = text.replace(
        "routes:\n  main:", f"{inner}routes:\n  inner: [{{filters: [{echo}, {answer}]}}]\n  main:"
    )
    async with running(text) as live:
        yield live


async def spoken(live: Live, client: Party) -> str:
    await client.send(GET)
    head = await client.expect(HEAD)
    found = re.search(rb"x-inner: (\w+)\r\n", head)
    assert found is not None, head
    return found[1].decode()


@pytest.mark.parametrize(
    ("codecs", "expected"), [("auto", "http2"), ("[http1]", "http1"), ("[http2]", "http2")]
)
async def test_the_endpoint_chooses(codecs: str, expected: str) -> None:
    async with behind(codecs) as live:
        client = await live.client()
        assert [await spoken(live, client) for _ in range(3)] == [expected] * 3
        assert live.cluster().stats.upstream_cx_total == 1, "and one connection was enough"
        assert live.cluster().stats.upstream_tls_handshakes == 1


async def test_many_first_requests_at_once_follow_the_same_choice() -> None:
    async with behind("[http1]") as live:
        clients = [await live.client(str(n)) for n in range(8)]
        for client in clients:
            await client.send(GET)
        for client in clients:
            assert b"x-inner: http1\r\n" in await client.expect(HEAD)
        live.hang_up_all()
        await eventually(lambda: live.cluster().stats.upstream_rq_active == 0, "all is over")


class Undecided:
    """An upstream that agrees on nothing, or on what its turn says."""

    def __init__(self, *turns: tuple[str, ...]) -> None:
        self.turns = list(turns)

    async def serve(self, stream: trio.SocketStream) -> None:
        context = served("edge.test", alpn=self.turns.pop(0) if self.turns else ())
        secure = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        await secure.do_handshake()
        if secure.selected_alpn_protocol() == "h2":
            await secure.receive_some()
            return  # it has changed its mind
        buffer = b""
        while b"\r\n\r\n" not in buffer:
            buffer += await secure.receive_some()
        await secure.send_all(http_response(b"", connection="close"))


@pytest.mark.parametrize("turns", [(), (("http/1.1",),)])
async def test_one_that_agrees_on_nothing_is_spoken_to_as_before_there_was_alpn(
    turns: tuple[tuple[str, ...], ...],
) -> None:
    server = Undecided(*turns)
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, server.serve)
        async with running(
            web(up.port, codec="alpn", tls=f"{{ca: {ca()}, sni: edge.test}}")
        ) as live:
            client = await live.client()
            for _ in range(2):
                await client.send(GET)
                await client.expect(HEAD)
            await live.settled(clients=None, upstreams=0)
        nursery.cancel_scope.cancel()


async def test_an_endpoint_that_changes_its_choice_is_followed() -> None:
    server = Undecided(("h2",), ("http/1.1",), ("http/1.1",))
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, server.serve)
        async with running(
            web(up.port, codec="alpn", tls=f"{{ca: {ca()}, sni: edge.test}}")
        ) as live:
            client = await live.client()
            await client.send(GET)
            await client.expect(re.compile(rb"HTTP/1.1 \d+ .*\r\n\r\n[^\r]*", re.DOTALL))
            await eventually(lambda: live.cluster().stats.upstream_cx_active == 0, "it has left")
            again = await live.client()
            await again.send(GET)
            await again.expect(HEAD)
        nursery.cancel_scope.cancel()


async def test_a_codec_that_needs_the_agreement_does_not_go_without() -> None:
    server = Undecided()
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, server.serve)
        async with running(
            web(up.port, codec="http2", tls=f"{{ca: {ca()}, sni: edge.test}}")
        ) as live:
            client = await live.client()
            await client.send(GET)
            await client.expect(re.compile(rb"HTTP/1.1 503 .*cannot be reached\n?", re.DOTALL))
            assert live.cluster().stats.upstream_cx_connect_fail == 1
        nursery.cancel_scope.cancel()
