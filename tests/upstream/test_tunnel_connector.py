"""Where a CONNECT ends: only tunnels go there, each on a connection of its own."""

from __future__ import annotations

import re

import pytest

from tests.live import GET, running, upstream, web
from xproxy.testing import END, Party, play

CONNECT = b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n"
GRANTED = b"HTTP/1.1 200 OK\r\n\r\n"


def ending(port: int) -> str:
    return web(port, codec="opaque", listener="    fallback: {cluster: web}\n").replace(
        "    - cluster: web\n", "    - {cluster: web, allow_connect: true}\n"
    )


@pytest.mark.parametrize("raw_first", [True, False])
async def test_l4_and_tunnels_share_a_cluster_and_nothing_else(raw_first: bool) -> None:
    async with upstream() as up, running(ending(up.port)) as live:
        for raw in (raw_first, not raw_first):
            client = await live.client()
            await client.send(b"\xff\xfe raw" if raw else CONNECT)
            server = Party("upstream", await up.accept())
            if raw:
                await server.expect(b"\xff\xfe raw")
            else:
                await client.expect(GRANTED)
            await play(server >> b"x", client << b"x", client >> b"y", server << b"y")
        refused = await live.client()
        await play(refused >> GET, refused << re.compile(rb"HTTP/1\.1 501 (?s:.*)no heads\n"))
        assert up.accepted == 2
        assert live.cluster().stats.upstream_rq_total == 3


async def test_each_tunnel_has_its_own_connection() -> None:
    async with upstream() as up, running(ending(up.port)) as live:
        ends = []
        for _ in range(2):
            client = await live.client()
            await play(client >> CONNECT, client << GRANTED)
            ends.append((client, Party("upstream", await up.accept())))
        for client, server in ends:
            await play(client >> b"x", server << b"x")
            await server.stream.aclose()  # type: ignore[attr-defined]  # a socket
            await client.expect(END)
        live.hang_up_all()
        await live.settled(clients=0, upstreams=0)
