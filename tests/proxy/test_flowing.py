"""Exchanges that move while their bodies flow: neither peer notices, and nothing is told twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.live import Live, Upstream, finish, hang_up, running, upstream
from tests.proxy.flows import flowing, move
from xproxy.testing import END, Party, play

L4 = """
listeners:
  - name: edge
    address: 127.0.0.1:0
    fallback: {{cluster: web}}
clusters:
  web: {{endpoints: ["127.0.0.1:{port}"]}}
"""


@asynccontextmanager
async def two(text: str) -> AsyncIterator[tuple[Live, Live, Upstream]]:
    async with upstream() as up:
        config = text.format(port=up.port)
        async with running(config) as old, running(config) as new:
            yield old, new, up


async def test_raw_tcp_goes_on_elsewhere_both_ways() -> None:
    async with two(L4) as (old, new, up):
        client = await old.client()
        await client.send(b"to")
        server = Party("upstream", await up.accept())
        await play(server << b"to", server >> b"fro", client << b"fro")
        lives = [old, new]
        for turn in range(5):
            await flowing(lives[0])
            move(*lives)
            lives.reverse()
            await play(client >> b"%d" % turn, server << b"%d" % turn)
            await play(server >> b"-%d" % turn, client << b"-%d" % turn)
        await finish(client)
        await play(server << END, server >> b"bye", client << b"bye")
        await finish(server)
        await play(client << END)
        await hang_up(client)
        await hang_up(server)
        for live in lives:
            await live.settled()
