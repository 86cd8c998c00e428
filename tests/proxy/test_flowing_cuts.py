"""Flowing exchanges cut anywhere, once and several times: both peers get what they would have got."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest
import trio

from tests.proxy.cutting import Cutter, Pair, Script, pair, play

STRIDE: Final = int(os.environ.get("XPROXY_CUT_STRIDE", "9"))
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
    assert cuts > 10
