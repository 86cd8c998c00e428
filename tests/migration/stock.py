"""A proxy with connections to give, and a takeover that has come as far as giving."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import attrs

from tests.live import GET, Live, http_response, running, upstream, web
from xproxy.migration.giving import Giving
from xproxy.migration.messages import VERSIONS, Accepting, Hello, Ready
from xproxy.testing import Party, play

HEAD: Final = re.compile(rb"[^\r]+\r\n(?:[^\r]+\r\n)*\r\n")
OK: Final = http_response(b"ok")


def giving(window: int = 8) -> Giving:
    """Return a machine that wants offers."""
    hello = Hello(versions=VERSIONS, software="a test")
    machine = Giving(hello, canary=0.0, window=window)
    machine.begin()
    for message in (hello, Ready(), Accepting()):
        machine.hear(message)
    assert machine.room == window
    return machine


@attrs.define(eq=False)
class Stock:
    """Pairs of connections; all are idle but those whose clients are ``busy``."""

    live: Live
    clients: list[Party] = attrs.field(factory=list)
    servers: list[Party] = attrs.field(factory=list)

    async def answer(self, number: int) -> None:
        """Let one that is busy be idle."""
        await play(self.servers[number] >> OK, self.clients[number] << OK)


@asynccontextmanager
async def stock(count: int, *, busy: int = 0) -> AsyncIterator[Stock]:
    """Let ``count`` clients send a request at a time; the last ``busy`` of them are not answered yet."""
    async with upstream() as up, running(web(up.port)) as live:
        found = Stock(live)
        for number in range(count):
            client = await live.client(f"client {number}")
            await client.send(GET)
            server = Party("upstream", await up.accept())
            await server.expect(HEAD)
            found.clients.append(client)
            found.servers.append(server)
        for number in range(count - busy):
            await play(found.servers[number] >> OK, found.clients[number] << OK)
        yield found
