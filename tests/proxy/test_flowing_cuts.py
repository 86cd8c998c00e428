"""Flowing exchanges cut anywhere, once and several times: both peers get what they would have got."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar, Final

import attrs
import pytest
import trio

from tests.proxy.cutting import Cutter, Pair, Script, pair, play
from tests.secure import ca
from tests.secure import pair as certificate
from xproxy.codecs.http_upgrade import accept_for
from xproxy.model.status import Status

STRIDE: Final = int(os.environ.get("XPROXY_CUT_STRIDE", "17"))
"""Every so many steps of an exchange it is cut; 1: everywhere."""
L4: Final = """
listeners:
  - name: edge
    address: 127.0.0.1:0
    filters:
      - {{name: access_log, path: {log}, format: json}}
      - {{name: body_limit, request: 100MiB, response: 100MiB}}
      - {{name: timeout, whole: 100s}}
      - retry
    fallback: {{cluster: web}}
clusters:
  web: {{endpoints: ["127.0.0.1:{port}"]}}
"""


def pieces(seed: int, count: int, size: int = 700) -> list[bytes]:
    """Return pieces of different lengths, none of which is like another."""
    return [
        b"%d.%d:" % (seed, number) + bytes([(seed * 7 + number) % 251]) * (number * 331 % size)
        for number in range(count)
    ]


async def rest_of(stream: trio.abc.ReceiveStream) -> bytes:
    got = bytearray()
    while piece := await stream.receive_some(65536):
        got += piece
    return bytes(got)


def talks(own: list[bytes], *, ends_first: bool) -> Script:
    """Send pieces and read at once; who does not end first ends after it has heard the end of the other."""

    async def talk(stream: trio.abc.HalfCloseableStream) -> bytes:
        got = b""

        async def hear() -> None:
            nonlocal got
            got = await rest_of(stream)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hear)
            for piece in own:
                await stream.send_all(piece)
                for _ in range(len(piece) % 4):
                    await trio.lowlevel.checkpoint()
            if ends_first:
                await stream.send_eof()
        if not ends_first:
            await stream.send_all(b"last words")
            await stream.send_eof()
        return got

    return talk


def check_once(both: Pair, before: dict[str, int], **more: int) -> None:
    for name, count in {"downstream_rq_total": 1, "downstream_cx_total": 1, **more}.items():
        assert both.total(name) == before.get(name, 0) + count, name
        before[name] = both.total(name)
    for name in ("upstream_rq_total", "upstream_cx_total"):
        assert both.asked(name) == before.get(name, 0) + 1, name
        before[name] = both.asked(name)


@pytest.mark.parametrize("plan", ["m", "t", "mm", "mtmtm", "mmmmm"])
@pytest.mark.parametrize("first", ["client", "server", "both"])
async def test_raw_tcp_is_the_same_wherever_it_is_cut(
    first: str, plan: str, tmp_path: Path
) -> None:
    own, theirs = pieces(1, 12), pieces(2, 9)
    client = talks(own, ends_first=first != "server")
    server = talks(theirs, ends_first=first != "client")
    sent = b"".join(own) + (b"last words" if first == "server" else b"")
    said = b"".join(theirs) + (b"last words" if first == "client" else b"")
    before: dict[str, int] = {}
    cuts = 0
    async with pair(L4, tmp_path) as both:
        at, last = 0, 1 << 30
        while at < last:
            cutter = Cutter(both.lives, at, plan, every=5 + at % 4, hold=at % 5)
            assert await play(both, client, server, cutter) == (said, sent)
            for live in both.lives:
                await live.settled()
            [*_, line] = await both.lines(1)
            assert (line["bytes_sent"], line["bytes_received"]) == (len(said), len(sent))
            check_once(
                both,
                before,
                downstream_rx_bytes_total=len(sent),
                downstream_tx_bytes_total=len(said),
                downstream_cx_destroy_remote=0,
                downstream_rq_reset=0,
            )
            cuts += cutter.done
            last = min(last, cutter.steps)
            at += STRIDE
    assert cuts > 45 // STRIDE


WEB: Final = """
listeners:
  - name: edge
    address: 127.0.0.1:0
    routes: main
    filters:
      - {{name: access_log, path: {log}, format: json}}
      - request_id
      - {{name: body_limit, request: 100MiB, response: 100MiB}}
      - {{name: timeout, whole: 100s}}
      - {{name: forwarded, via: ""}}
      - {{name: retry, on: [reset]}}
{listener}routes:
  main:
    - cluster: web
      allow_upgrade: [websocket]
      allow_connect: true
      timeout: 50s
      filters:
        - {{name: body_limit, response: 50MiB}}
        - {{name: retry, on: [unavailable]}}
clusters:
  web:
    endpoints: ["127.0.0.1:{port}"]
{cluster}
"""


def web_text(listener: str = "", cluster: str = "") -> str:
    return WEB.replace("{listener}", listener).replace("{cluster}", cluster)


async def head_of(stream: trio.abc.ReceiveStream) -> tuple[bytes, bytes]:
    """Return a head, and what came behind it."""
    got = b""
    while b"\r\n\r\n" not in got:
        piece = await stream.receive_some(65536)
        assert piece, f"the connection ended after {got!r}"
        got += piece
    head, _, rest = got.partition(b"\r\n\r\n")
    return head, rest


async def until(stream: trio.abc.ReceiveStream, end: bytes, got: bytes = b"") -> bytes:
    """Return all that comes, to the first ``end`` at the end of it."""
    found = bytearray(got)
    while not found.endswith(end):
        piece = await stream.receive_some(65536)
        assert piece, f"the connection ended after {bytes(found[-80:])!r}"
        found += piece
    return bytes(found)


async def say(stream: trio.abc.SendStream, said: list[bytes]) -> None:
    for piece in said:
        await stream.send_all(piece)
        for _ in range(len(piece) % 4):
            await trio.lowlevel.checkpoint()


def chunked(said: list[bytes], trailers: bytes = b"") -> list[bytes]:
    return [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in said] + [
        b"0\r\n" + trailers + b"\r\n"
    ]


GET: Final = b"GET /%d HTTP/1.1\r\nhost: a\r\nx-request-id: r\r\n\r\n"
SAID: Final = pieces(3, 14)
BODY: Final = b"".join(SAID)
ENDS: Final = b"0\r\nx-end: 1\r\n\r\n"
SMALL_OK: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

BODIES: Final = {
    "length": (b"content-length: %d\r\n" % len(BODY), SAID),
    "chunked": (b"transfer-encoding: chunked\r\n", chunked(SAID, b"x-end: 1\r\n")),
    "close": (b"connection: close\r\n", SAID),
    "sse": (
        b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n",
        chunked([b"data: %d\n\n" % n for n in range(20)]),
    ),
}


def downloads(kind: str) -> tuple[Script, Script]:
    """Return a client that downloads, and then asks once more where it can, and its server."""
    fields, said = BODIES[kind]

    async def client(stream: trio.abc.HalfCloseableStream) -> bytes:
        await stream.send_all(GET % 1)
        head, rest = await head_of(stream)
        if kind == "length":
            got = rest + await exactly(stream, len(BODY) - len(rest))
        else:
            got = await until(stream, ENDS if kind == "chunked" else b"0\r\n\r\n", rest)
        if kind == "close":
            return head + dechunked(got)  # the proxy's own framing
        await stream.send_all(GET % 2)
        # How a body is cut into chunks is nobody's.
        got = got if kind == "length" else dechunked(got)
        return head + got + await until(stream, SMALL_OK[-6:])

    async def server(stream: trio.abc.HalfCloseableStream) -> bytes:
        got = await until(stream, b"\r\n\r\n")
        await stream.send_all(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n")
        await say(stream, said)
        if kind == "close":
            await stream.send_eof()
            return got
        got += await until(stream, b"\r\n\r\n")
        await stream.send_all(SMALL_OK)
        return got

    return client, server


async def exactly(stream: trio.abc.ReceiveStream, count: int) -> bytes:
    got = bytearray()
    while len(got) < count:
        piece = await stream.receive_some(count - len(got))
        assert piece
        got += piece
    return bytes(got)


def exchanges(kind: str) -> tuple[Script, Script]:
    """Return a client that uploads while it downloads, as the server begins its answer at once, and that server."""
    up = chunked(pieces(4, 11), b"x-last: 1\r\n") if kind == "chunked" else pieces(4, 11)
    size = sum(map(len, up))
    framing = b"transfer-encoding: chunked" if kind == "chunked" else b"content-length: %d" % size

    async def client(stream: trio.abc.HalfCloseableStream) -> bytes:
        await stream.send_all(
            b"POST /1 HTTP/1.1\r\nhost: a\r\nx-request-id: r\r\n" + framing + b"\r\n\r\n"
        )
        got = b""

        async def hear() -> None:
            nonlocal got
            got = await until(stream, ENDS)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hear)
            await say(stream, up)
        await stream.send_all(GET % 2)
        head, _, got = got.partition(b"\r\n\r\n")
        return head + dechunked(got) + await until(stream, SMALL_OK[-6:])

    async def server(stream: trio.abc.HalfCloseableStream) -> bytes:
        head, rest = await head_of(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        got = b""

        async def hear() -> None:
            nonlocal got
            if kind == "chunked":
                got = await until(stream, b"0\r\nx-last: 1\r\n\r\n", rest)
            else:
                got = rest + await exactly(stream, size - len(rest))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hear)
            await say(stream, chunked(SAID, b"x-end: 1\r\n")[:-1])
        await stream.send_all(ENDS)
        asked = await until(stream, b"\r\n\r\n")
        await stream.send_all(SMALL_OK)
        return head + dechunked(got) + asked if kind == "chunked" else head + got + asked

    return client, server


def dechunked(body: bytes) -> bytes:
    got = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        if not int(size, 16):
            return got + body
        got += body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]


WISH: Final = (
    b"GET /chat HTTP/1.1\r\nhost: a\r\nx-request-id: r\r\nconnection: upgrade\r\n"
    b"upgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"sec-websocket-version: 13\r\n\r\n"
)
SWITCH: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-accept: " + accept_for("dGhlIHNhbXBsZSBub25jZQ==").encode() + b"\r\n\r\n"
)
CONNECT: Final = b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n"


def tunnels(kind: str, first: str) -> tuple[Script, Script]:
    """Return both ends of a tunnel."""
    ask = talks(pieces(1, 12), ends_first=first != "server")
    answer = talks(pieces(2, 9), ends_first=first != "client")

    async def client(stream: trio.abc.HalfCloseableStream) -> bytes:
        await stream.send_all(WISH if kind == "websocket" else CONNECT)
        head, rest = await head_of(stream)
        return head + rest + await ask(stream)

    async def server(stream: trio.abc.HalfCloseableStream) -> bytes:
        if kind == "connect":
            return await answer(stream)
        head, rest = await head_of(stream)
        await stream.send_all(SWITCH)
        return head + rest + await answer(stream)

    return client, server


SCENES: Final = {
    **{f"download-{kind}": downloads(kind) for kind in BODIES},
    **{f"exchange-{kind}": exchanges(kind) for kind in ("length", "chunked")},
    **{
        f"{kind}-{first}": tunnels(kind, first)
        for kind in ("websocket", "connect")
        for first in ("client", "server", "both")
    },
}


@pytest.mark.parametrize("plan", ["m", "mtmtm", "mmmmm"])
@pytest.mark.parametrize("scene", SCENES)
async def test_http_is_the_same_wherever_it_is_cut(scene: str, plan: str, tmp_path: Path) -> None:
    client, server = SCENES[scene]
    codec = "    codec: opaque" if scene.startswith("connect") else ""
    text = web_text(cluster=codec)
    cuts = 0
    async with pair(text, tmp_path) as both:
        wanted = await play(both, client, server)
        count = sum(live.stats().downstream_rq_total for live in both.lives)
        plain = (await both.lines(count))[-count]
        totals = Totals.of(both)
        at, last = 0, 1 << 30
        while at < last:
            cutter = Cutter(both.lives, at, plan, every=5 + at % 4, hold=at % 5)
            assert await play(both, client, server, cutter) == wanted
            for live in both.lives:
                await live.settled()
            line = (await both.lines(count))[-count]
            for name in ("bytes_sent", "bytes_received", "response_code", "status", "path"):
                assert line.get(name) == plain.get(name), name
            cuts += cutter.done
            totals = totals.grown(both)
            last = min(last, cutter.steps)
            at += STRIDE
    assert cuts > 45 // STRIDE


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
@pytest.mark.parametrize("tls", ["tls-down", "tls-up", "tls-down tls-up"])
@pytest.mark.parametrize("scene", ["download-chunked", "exchange-length", "websocket-server"])
async def test_tls_is_the_same_wherever_it_is_cut(
    scene: str, tls: str, version: str, tmp_path: Path
) -> None:
    client, server = SCENES[scene]
    text = web_text(
        f"    tls: {{{{certificates: [{{{certificate()}}}]}}}}\n" if "down" in tls else "",
        f"    tls: {{{{ca: {ca()}}}}}" if "up" in tls else "",
    )
    cuts = 0
    async with pair(text, tmp_path) as both:
        wanted = await play(both, client, server, tls=tls, version=version)
        count = sum(live.stats().downstream_rq_total for live in both.lives)
        await both.lines(count)
        totals = Totals.of(both)
        at, last = 0, 1 << 30
        while at < last:
            plan = ("m", "mmmmm", "mtmtm")[at % 3]
            cutter = Cutter(both.lives, at, plan, every=5 + at % 4, hold=at % 5)
            got = await play(both, client, server, cutter, tls=tls, version=version)
            assert got == wanted
            for live in both.lives:
                await live.settled()
            await both.lines(count)
            cuts += cutter.done
            totals = totals.grown(both)
            last = min(last, cutter.steps)
            at += STRIDE
    assert cuts > 45 // STRIDE


@attrs.frozen
class Totals:
    """Counters of both proxies together, and what one exchange adds to them."""

    counted: dict[str, int]
    each: dict[str, int]
    """But for bytes, which depend on how bodies are cut into chunks."""

    NAMES: ClassVar = (
        *("downstream_rq_total", "downstream_cx_total", "downstream_tunnels_total"),
        *("downstream_rq_reset", "downstream_cx_destroy_remote"),
        *("downstream_rx_bytes_total", "downstream_tx_bytes_total"),
    )
    ASKED: ClassVar = ("upstream_rq_total", "upstream_cx_total", "upstream_rq_reset")

    @classmethod
    def of(cls, both: Pair) -> Totals:
        counted = cls.now(both)
        return cls(counted, counted)

    @classmethod
    def now(cls, both: Pair) -> dict[str, int]:
        found = {name: both.total(name) for name in cls.NAMES}
        for status in Status:
            found[status.label] = sum(live.stats().statuses.get(status, 0) for live in both.lives)
            found[f"{status.label} upstream"] = sum(
                live.cluster().stats.statuses.get(status, 0) for live in both.lives
            )
        return found | {name: both.asked(name) for name in cls.ASKED}

    def grown(self, both: Pair) -> Totals:
        """Look that one more exchange has added to them what each does."""
        now = self.now(both)
        assert both.client is not None
        bytes_ = {
            "downstream_rx_bytes_total": both.client.sent,
            "downstream_tx_bytes_total": both.client.received,
        }
        grown = {name: now[name] - self.counted[name] for name in now}
        assert grown == self.each | bytes_
        return Totals(now, self.each)
