"""Much that flows while it moves again and again: not one byte differs."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from random import Random
from typing import Final

import pytest
import trio

from tests.live import PATIENCE
from tests.proxy.cutting import connect, dressed, pair
from tests.proxy.flows import flows, move
from tests.secure import ca
from tests.secure import pair as certificate

MIB: Final = int(os.environ.get("XPROXY_BULK_MIB", "8"))
"""MiB each way."""
TEXT: Final = """
listeners:
  - name: edge
    address: 127.0.0.1:0
{tls}    filters:
      - {{name: access_log, path: {log}, format: json}}
      - {{name: body_limit, request: 4GiB, response: 4GiB}}
    {way}
routes:
  main:
    - {{cluster: web, allow_upgrade: [websocket], allow_connect: true}}
clusters:
  web:
    endpoints: ["127.0.0.1:{port}"]
{cluster}
"""
PIECE: Final = Random(7).randbytes(1 << 20)
"""Of what flows; each has its number in front."""


def wanted(count: int) -> str:
    found = hashlib.sha256()
    for number in range(count):
        found.update(b"%8d" % number + PIECE[8:])
    return found.hexdigest()


async def digest(stream: trio.abc.ReceiveStream, size: int) -> str:
    """Return that of so many bytes."""
    found = hashlib.sha256()
    while size:
        data = await stream.receive_some(min(size, 1 << 16))
        assert data, f"the connection ended, and {size} bytes have not come"
        found.update(data)
        size -= len(data)
    return found.hexdigest()


async def send(stream: trio.abc.SendStream, first: int, end: int) -> None:
    for number in range(first, end):
        await stream.send_all(b"%8d" % number + PIECE[8:])


async def head(stream: trio.abc.ReceiveStream) -> None:
    got = b""
    while not got.endswith(b"\r\n\r\n"):
        data = await stream.receive_some(1)
        assert data
        got += data


@pytest.mark.parametrize(
    ("kind", "tls"),
    [("raw", "plain")]  # its TLS would be passed through
    + [
        (kind, tls)
        for kind in ("download", "both")
        for tls in ("plain", "tls-down", "tls-up", "tls-down tls-up")
    ],
)
async def test_much_is_the_same_wherever_it_goes(kind: str, tls: str, tmp_path: Path) -> None:
    text = (
        TEXT.replace("{tls}", _listener(tls))
        .replace("{cluster}", f"    tls: {{{{ca: {ca()}}}}}\n" if "up" in tls else "")
        .replace("{way}", "fallback: {{cluster: web}}" if kind == "raw" else "routes: main")
    )
    size = MIB << 20
    got: dict[str, str] = {}
    async with pair(text, tmp_path) as both:
        lives = list(both.lives)
        client = await connect(lives[0], tls)
        server: list[trio.abc.HalfCloseableStream] = []
        moves = 0

        async def serve() -> None:
            theirs = await dressed(await both.up.accept(), tls)
            server.append(theirs)
            if kind != "raw":
                await head(theirs)
                await theirs.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send, theirs, 0, MIB - 1)
                if kind != "download":
                    got["up"] = await digest(theirs, size)
            await send(theirs, MIB - 1, MIB)  # an answer that is complete would end its request

        async def ask() -> None:
            if kind == "download":
                await client.send_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            elif kind == "both":
                await client.send_all(
                    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % size
                )
            async with trio.open_nursery() as nursery:
                if kind != "download":
                    nursery.start_soon(send, client, 0, MIB)
                if kind != "raw":
                    await head(client)
                got["down"] = await digest(client, size)

        async def keep_moving() -> None:
            nonlocal moves
            while True:
                await trio.sleep(0.003)
                if flows(lives[0]):
                    move(lives[0], lives[1])
                    moves += 1
                    lives.reverse()

        with trio.fail_after(PATIENCE * 4):
            async with trio.open_nursery() as moving:
                moving.start_soon(keep_moving)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(serve)
                    nursery.start_soon(ask)
                moving.cancel_scope.cancel()
        names = ["down"] if kind == "download" else ["down", "up"]
        assert got == dict.fromkeys(names, wanted(MIB))
        assert moves >= 3
        for stream in (client, *server):
            await trio.aclose_forcefully(stream)
        for live in lives:
            await live.settled()
        [line] = await both.lines(1)
        assert line["bytes_sent"] == size
        assert line["bytes_received"] == (0 if kind == "download" else size)


def _listener(tls: str) -> str:
    return f"    tls: {{{{certificates: [{{{certificate()}}}]}}}}\n" if "down" in tls else ""
