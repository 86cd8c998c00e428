"""HTTP/1.1 to HTTP/2 and back, end to end: what one says the other hears, and nothing of the hop goes along."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio

from tests.http2_peer import Http2Peer
from tests.live import PATIENCE, Live, eventually, http_response, running, upstream, web
from tests.process.product import Product, product, unused_port
from tests.process.upstreams import upstream as upstream_process
from xproxy.model.status import Status
from xproxy.testing import Party

pytestmark = pytest.mark.slow

PROTOCOL_ERROR, INTERNAL_ERROR, CANCEL = 1, 2, 8


@attrs.define(eq=False)
class Down:
    """A client that speaks HTTP/2, and the upstream's end of its request, which speaks HTTP/1.1."""

    live: Live
    peer: Http2Peer
    server: Party

    async def asked(self, method: str = "GET") -> str:
        """Return the head that arrives at the upstream."""
        head = await self.server.expect(re.compile(rb"(?s)" + method.encode() + rb" .*?\r\n\r\n"))
        return head.decode("latin-1")


@asynccontextmanager
async def down(
    method: str = "GET", extra: Sequence[tuple[str, str]] = (), *, end: bool = True
) -> AsyncIterator[Down]:
    """Ask by HTTP/2; the upstream has accepted the connection."""
    async with upstream() as up, running(web(up.port, codec="http1")) as live:
        peer = Http2Peer(await live.connect(), client=True)
        fields = [
            (":method", method),
            (":scheme", "http"),
            (":path", "/a?b"),
            (":authority", "h:1"),
        ]
        peer.h2.send_headers(1, [*fields, *extra], end_stream=end)
        await peer.flush()
        yield Down(live, peer, Party("upstream", await up.accept()))


async def test_a_request_and_its_answer() -> None:
    extra = [("te", "trailers"), ("x-a", "1"), ("cookie", "a=b"), ("x-a", "2"), ("cookie", "c=d")]
    async with down(extra=extra) as it:
        head = await it.asked()
        assert head.startswith("GET /a?b HTTP/1.1\r\nHost: h:1\r\n")
        # RFC 9113 §8.2.3: crumbs become one field. RFC 9110 §10.1.4: TE is the hop's.
        assert head.lower().count("cookie: ") == 1
        for line in ("cookie: a=b; c=d", "x-a: 1", "x-a: 2", "TE: trailers", "Connection: TE"):
            assert f"{line}\r\n" in head
        await it.server.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-t\r\nKeep-Alive: timeout=5\r\n"
            b"Connection: x-hop\r\nX-Hop: 1\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n\r\n"
            b"2\r\nhi\r\n0\r\nx-t: 7\r\n\r\n"
        )
        told = await it.peer.whole(1)
        assert told.fields == [
            (":status", "200"),
            ("trailer", "x-t"),
            ("set-cookie", "a=b"),
            ("set-cookie", "c=d"),
        ]
        assert (told.body, told.trailers) == (b"hi", [("x-t", "7")])


async def test_trailers_of_a_request() -> None:
    async with down("POST", [("trailer", "x-t")], end=False) as it:
        await it.asked("POST")
        it.peer.h2.send_data(1, b"hello")
        it.peer.h2.send_headers(1, [("x-t", "7")], end_stream=True)
        await it.peer.flush()
        await it.server.expect(b"5\r\nhello\r\n0\r\nx-t: 7\r\n\r\n")
        await it.server.send(http_response(b"ok"))
        assert (await it.peer.whole(1)).body == b"ok"


@pytest.mark.parametrize("announced", [True, False])
async def test_trailers_of_a_request_that_declares_its_length(announced: bool) -> None:
    # RFC 9110 §6.5: only chunks have trailers. What was not announced must be here when the head goes out.
    async with upstream() as up, running(web(up.port, codec="http1")) as live:
        peer = Http2Peer(await live.connect(), client=True)
        fields = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "h")]
        fields += [("content-length", "5"), *([("trailer", "x-t")] if announced else ())]
        peer.h2.send_headers(1, fields)
        if announced:
            await peer.flush()
        else:
            peer.h2.send_data(1, b"hello")
            peer.h2.send_headers(1, [("x-t", "7")], end_stream=True)
            await peer.flush()
        server = Party("upstream", await up.accept())
        head = await server.expect(re.compile(rb"(?s)POST .*?\r\n\r\n"))
        assert b"content-length" not in head.lower()
        assert (b"Trailer: x-t\r\n" in head) == announced
        if announced:
            peer.h2.send_data(1, b"hello")
            peer.h2.send_headers(1, [("x-t", "7")], end_stream=True)
            await peer.flush()
        await server.expect(b"5\r\nhello\r\n0\r\nx-t: 7\r\n\r\n")
        await server.send(http_response(b"ok"))
        assert (await peer.whole(1)).body == b"ok"
        await live.settled(clients=1)


@pytest.mark.parametrize("pieces", [1, 2])
async def test_trailers_say_nothing_of_the_outcome_of_what_is_no_call(pieces: int) -> None:
    async with upstream() as up, running(web(up.port, codec="http2")) as live:
        client = Http2Peer(await live.connect(), client=True)
        await client.ask()
        server = Http2Peer(await up.accept(), client=False)
        await server.whole(1)
        server.h2.send_headers(1, [(":status", "200")])
        server.h2.send_data(1, b"hi")
        if pieces == 2:
            await server.flush()
            await client.until(lambda: 1 in client.messages and client.messages[1].body, "the body")
        server.h2.send_headers(1, [("grpc-status", "5")], end_stream=True)
        await server.flush()
        assert (await client.whole(1)).trailers == [("grpc-status", "5")]
        await live.settled(clients=1)
        assert live.stats().statuses == {Status.OK: 1}
        assert live.cluster().stats.statuses == {Status.OK: 1}


async def test_interim_responses() -> None:
    async with down("POST", [("expect", "100-continue"), ("content-length", "2")], end=False) as it:
        assert "expect: 100-continue" in (await it.asked("POST")).lower()
        await it.server.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await it.peer.until(lambda: 1 in it.peer.messages and it.peer.messages[1].interim, "100")
        it.peer.h2.send_data(1, b"hi", end_stream=True)
        await it.peer.flush()
        await it.server.expect(b"hi")
        await it.server.send(
            b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + http_response(b"ok")
        )
        told = await it.peer.whole(1)
        assert told.interim == [[(":status", "100")], [(":status", "103"), ("link", "</x>")]]
        assert told[":status"] == "200"


@pytest.mark.parametrize(
    ("method", "answer", "length"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", "7"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", ""),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", "7"),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "0"),
    ],
)
async def test_answers_without_a_body(method: str, answer: bytes, length: str) -> None:
    async with down(method) as it:
        await it.asked(method)
        await it.server.send(answer)
        told = await it.peer.whole(1)
        assert told.body == b""
        assert dict(told.fields).get("content-length", "") == length


async def test_an_answer_that_is_shorter_than_it_says_is_broken_off() -> None:
    async with down() as it:
        await it.asked()
        await it.server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nhal")
        await it.peer.until(lambda: 1 in it.peer.messages and it.peer.messages[1].body, "half")
        await trio.aclose_forcefully(_stream(it.server))
        await it.peer.until(lambda: it.peer.messages[1].reset is not None, "the reset")
        assert it.peer.messages[1].reset == INTERNAL_ERROR
        assert not it.peer.messages[1].ended


@pytest.mark.parametrize("body", [b"hi", b"hi, and more"])
async def test_a_request_of_another_length_than_it_says_is_none(body: bytes) -> None:
    async with down("POST", [("content-length", "5")], end=False) as it:
        await it.asked("POST")
        it.peer.h2.send_data(1, body[:2])
        await it.peer.flush()
        await it.server.expect(b"hi")
        it.peer.h2.send_data(1, body[2:], end_stream=True)
        await it.peer.flush()
        # RFC 9113 §8.1.1. The upstream must not take it for a whole one.
        await it.peer.until(lambda: 1 in it.peer.messages, "the reset")
        assert it.peer.messages[1].reset == PROTOCOL_ERROR
        with trio.fail_after(PATIENCE), contextlib.suppress(trio.BrokenResourceError):
            assert await _stream(it.server).receive_some() == b""


def _stream(party: Party) -> trio.SocketStream:
    assert isinstance(party.stream, trio.SocketStream)
    return party.stream


@attrs.define(eq=False)
class Up:
    """A client that speaks HTTP/1.1, and the upstream's end of its request, which speaks HTTP/2."""

    client: Party
    peer: Http2Peer


@asynccontextmanager
async def going_up(request: bytes) -> AsyncIterator[Up]:
    """Ask by HTTP/1.1; the request's head has arrived at the upstream."""
    async with upstream() as up, running(web(up.port, codec="http2")) as live:
        client = await live.client()
        await client.send(request)
        peer = Http2Peer(await up.accept(), client=False)
        await peer.until(lambda: 1 in peer.messages and peer.messages[1].fields, "the request")
        yield Up(client, peer)


GET = b"GET /a?b HTTP/1.1\r\nHost: h:1\r\n"


async def test_a_request_of_http1_and_its_answer() -> None:
    fields = (
        b"X-A: 1\r\nCookie: a=b; c=d\r\nTE: trailers, deflate\r\nConnection: TE, X-Hop, keep-alive\r\n"
        b"X-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n\r\n"
    )
    async with going_up(GET + fields) as it:
        assert it.peer.messages[1].fields == [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/a?b"),
            (":authority", "h:1"),
            ("x-a", "1"),
            # As h2 has it: crumbs are put at the end.
            *[f for f in it.peer.messages[1].fields if f[0] in ("te", "cookie")],
        ]
        assert it.peer.messages[1]["te"] == "trailers"
        assert it.peer.messages[1]["cookie"] == "a=b; c=d"
        it.peer.h2.send_headers(1, [(":status", "103"), ("link", "</x>")])
        it.peer.h2.send_headers(1, [(":status", "200"), ("trailer", "x-t"), ("x-b", "2")])
        it.peer.h2.send_data(1, b"hi")
        it.peer.h2.send_headers(1, [("x-t", "7")], end_stream=True)
        await it.peer.flush()
        await it.client.expect(re.compile(rb"HTTP/1\.1 103 [^\r]*\r\nlink: </x>\r\n\r\n"))
        head = await it.client.expect(re.compile(rb"(?s)HTTP/1\.1 200 OK\r\n.*?\r\n\r\n"))
        assert b"Transfer-Encoding: chunked\r\n" in head
        assert b"x-b: 2\r\n" in head
        await it.client.expect(b"2\r\nhi\r\n0\r\nx-t: 7\r\n\r\n")


async def test_trailers_of_a_request_of_http1() -> None:
    chunks = b"5\r\nhello\r\n0\r\nX-T: 7\r\n\r\n"
    head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n"
    async with going_up(head + chunks) as it:
        told = await it.peer.whole(1)
        assert (told.body, told.trailers) == (b"hello", [("x-t", "7")])
        assert "transfer-encoding" not in dict(told.fields)
        await it.peer.answer(1)
        await it.client.expect(re.compile(rb"(?s)HTTP/1\.1 200 .*\r\n\r\n.*ok.*"))


async def test_a_hundred_continue_of_an_upstream_of_http2() -> None:
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    async with going_up(head) as it:
        it.peer.h2.send_headers(1, [(":status", "100")])
        await it.peer.flush()
        await it.client.expect(b"HTTP/1.1 100 Continue\r\n\r\n")
        await it.client.send(b"hi")
        assert (await it.peer.whole(1)).body == b"hi"
        await it.peer.answer(1)
        await it.client.expect(re.compile(rb"(?s)HTTP/1\.1 200 .*ok.*"))


@pytest.mark.parametrize(
    ("method", "fields", "head"),
    [
        ("HEAD", [(":status", "200"), ("content-length", "7")], b"content-length: 7\r\n"),
        ("GET", [(":status", "204")], b""),
        ("GET", [(":status", "304"), ("content-length", "7")], b"content-length: 7\r\n"),
    ],
)
async def test_answers_of_http2_without_a_body(
    method: str, fields: list[tuple[str, str]], head: bytes
) -> None:
    async with going_up(method.encode() + GET[3:] + b"\r\n") as it:
        it.peer.h2.send_headers(1, fields, end_stream=True)
        await it.peer.flush()
        got = await it.client.expect(re.compile(rb"(?s)HTTP/1\.1 \d+ .*?\r\n\r\n"))
        assert head.lower() in got.lower()
        assert b"chunked" not in got
        # The next request finds the connection where it should be.
        await it.client.send(GET + b"\r\n")
        await it.peer.until(lambda: 3 in it.peer.messages, "the next request")


async def test_an_answer_of_http2_that_is_reset_is_broken_off() -> None:
    async with going_up(GET + b"\r\n") as it:
        it.peer.h2.send_headers(1, [(":status", "200")])
        it.peer.h2.send_data(1, b"half")
        await it.peer.flush()
        await it.client.expect(re.compile(rb"(?s)HTTP/1\.1 200 .*?\r\n\r\n4\r\nhalf\r\n"))
        it.peer.h2.reset_stream(1, INTERNAL_ERROR)
        await it.peer.flush()
        with trio.fail_after(PATIENCE), contextlib.suppress(trio.BrokenResourceError):
            assert await _stream(it.client).receive_some() == b""


async def test_a_client_that_leaves_resets_its_stream_upstream() -> None:
    async with going_up(GET + b"\r\n") as it:
        await trio.aclose_forcefully(_stream(it.client))
        await it.peer.until(lambda: it.peer.messages[1].reset is not None, "the reset")
        assert it.peer.messages[1].reset == CANCEL


async def test_an_offer_of_h2c_is_not_taken_and_does_not_go_on() -> None:
    offer = (
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
    )
    async with going_up(GET + offer) as it:
        assert {name for name, _ in it.peer.messages[1].fields if name[0] != ":"} == set()
        await it.peer.answer(1)
        await it.client.expect(re.compile(rb"(?s)HTTP/1\.1 200 .*ok.*"))


async def test_many_streams_share_few_connections_of_http1() -> None:
    async with upstream() as up, running(web(up.port, codec="http1")) as live:
        peer = Http2Peer(await live.connect(), client=True)
        async with trio.open_nursery() as nursery:

            async def serve(stream: trio.SocketStream) -> None:
                async for data in stream:
                    assert data.count(b"\r\n\r\n") == 1
                    await stream.send_all(http_response(bytes(data.split(b" ")[1])))

            nursery.start_soon(up.serve, serve)
            asked = {await peer.ask(f"/{n}"): f"/{n}".encode() for n in range(50)}
            for stream_id, path in asked.items():
                assert (await peer.whole(stream_id)).body == path
            await eventually(lambda: not live.cluster().stats.upstream_rq_active, "the end")
            nursery.cancel_scope.cancel()


# ---- real clients


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    inner = unused_port()
    with upstream_process("web") as port:
        text = (
            "listeners:\n"
            "  - {name: edge, address: '127.0.0.1:0', routes: main}\n"
            f"  - {{name: inner, address: '127.0.0.1:{inner}', routes: inner}}\n"
            "routes: {main: [{match: {headers: {x-hop: two}}, cluster: inner}, {cluster: web}],"
            " inner: [{cluster: web}]}\n"
            "clusters:\n"
            f"  web: {{endpoints: ['127.0.0.1:{port}'], codec: http1}}\n"
            f"  inner: {{endpoints: ['127.0.0.1:{inner}'], codec: http2}}\n"
        )
        with product(text, tmp_path_factory.mktemp("conversion")) as found:
            yield found


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode("latin-1")


HOPS = pytest.mark.parametrize("hop", ["one", "two"])
VERSIONS = pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])


@pytest.mark.tool("curl")
@HOPS
@VERSIONS
def test_curl_gets_the_same_by_every_way(
    version: str, hop: str, proxy: Product, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{proxy.port}"
    curl = ("curl", "-sS", "--max-time", "200", version, "-H", f"x-hop: {hop}")
    assert run(*curl, f"{url}/x?y").endswith(" /x?y\n")
    assert len(run(*curl, f"{url}/size/300000")) == 300_000
    assert "content-length: 300000" in run(*curl, "-I", f"{url}/size/300000").lower()
    body = tmp_path / "body"
    body.write_bytes(bytes(range(256)) * 400)
    told = run(*curl, "-H", "Expect:", "--data-binary", f"@{body}", url)
    assert told.startswith("102400 ")
    heads = tmp_path / "heads"
    assert len(run(*curl, "-D", str(heads), f"{url}/chunked/70000")) == 70_000
    # curl writes trailers behind the head.
    assert "x-digest: " in heads.read_text().lower()


@pytest.mark.tool("curl")
def test_curl_offers_h2c_and_is_served_as_http1(proxy: Product) -> None:
    url = f"http://127.0.0.1:{proxy.port}/x"
    told = run("curl", "-sS", "--max-time", "200", "--http2", "-i", url)
    assert told.startswith("HTTP/1.1 200 OK\r\n")
    assert told.endswith(" /x\n")


@pytest.mark.tool("nghttp")
@HOPS
def test_nghttp_sees_trailers_and_sends_them(hop: str, proxy: Product, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{proxy.port}"
    told = run("nghttp", "-v", "-n", "-H", f"x-hop: {hop}", f"{url}/chunked/1000")
    assert re.search(r"x-digest.*: [0-9a-f]{64}", told)
    body = tmp_path / "body"
    body.write_bytes(b"hello")
    told = run(
        "nghttp",
        "--no-content-length",
        "-H",
        f"x-hop: {hop}",
        "-d",
        str(body),
        "--trailer",
        "x-t: 7",
        url,
    )
    assert told.startswith("5 ")
    assert "x-t: 7" in told.lower()
