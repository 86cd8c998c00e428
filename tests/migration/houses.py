"""Several proxies of one configuration in this process: a connection whose protocol is not known moves among them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import attrs
import trio
from trio.testing import wait_all_tasks_blocked

from tests.live import Live, eventually, running
from tests.migration.plain import through_bytes
from xproxy.connection.standing import Standing
from xproxy.proxy.connection import Connection
from xproxy.proxy.opening import Opening
from xproxy.proxy.opening_moment import OpeningMoment

WAYS: Final = ("move", "thaw", "both")
"""What becomes of an offer: it is taken; it is refused or withdrawn; first this and then that."""


@attrs.define(eq=False)
class Houses:
    """One client's connection, and the proxies that may have it."""

    lives: list[Live]
    home: int = 0
    moves: int = 0
    moments: list[OpeningMoment] = attrs.field(factory=list)
    """All at which it was frozen."""

    @property
    def connection(self) -> Connection:
        """The connection, which one of them has, and nobody else."""
        found = [
            c for live in self.lives for c in live.runtime.listeners["edge"].connections.values()
        ]
        assert len(found) == 1
        return found[0]

    @property
    def live(self) -> Live:
        """Who has it."""
        return self.lives[self.home]

    def was_inside_tls(self) -> bool:
        """Whether its TLS was ended already when it was frozen last."""
        return self.moments[-1].stream != b""

    async def opening(self) -> Opening | None:
        """Wait until it stands somewhere; None: its protocol is known."""
        await wait_all_tasks_blocked()
        connection = self.connection
        if connection.driver is not None:
            return None
        await eventually(
            lambda: connection.movable is not None and connection.movable.standing is Standing.IDLE,
            "it waits",
            within=10,
        )
        assert isinstance(connection.opening, Opening)
        return connection.opening

    async def shift(self, way: str, times: int = 1) -> bool:
        """Freeze it, and let it go on there or here. False: its protocol is known."""
        for _ in range(times):
            if way != "move":
                if (opening := await self.opening()) is None:
                    return False
                self.moments.append(opening.freeze())
                opening.thaw()
            if way != "thaw":
                if (opening := await self.opening()) is None:
                    return False
                await self._move(opening)
        return True

    async def _move(self, opening: Opening) -> None:
        old, connection = self.live, self.connection
        moment = opening.freeze()
        assert moment.sock is not None
        self.moments.append(moment)
        sock = moment.sock.dup()
        opening.leave()
        await eventually(lambda: old.stats().downstream_cx_active == 0, "it has left")
        self.home = (self.home + 1) % len(self.lives)
        self.moves += 1
        active = self.live.runtime.listeners["edge"]
        got = through_bytes(moment)
        got.check()
        assert active.adopt(sock, connection.id, active.opening(got))


@asynccontextmanager
async def houses(text: str, count: int = 2) -> AsyncIterator[Houses]:
    """Run ``count`` proxies of one configuration."""
    async with AsyncExitStack() as stack:
        yield Houses([await stack.enter_async_context(running(text)) for _ in range(count)])


def total(made: Houses, name: str) -> int:
    """Return a counter, added up over all of them."""
    return sum(getattr(live.stats(), name) for live in made.lives)


async def send_in_pieces(
    made: Houses, stream: trio.abc.SendStream, data: bytes, size: int, way: str, times: int = 1
) -> None:
    """Send ``data`` in pieces of ``size``, and shift the connection before the first and after each."""
    await made.shift(way, times)
    for at in range(0, len(data), size):
        await stream.send_all(data[at : at + size])
        await made.shift(way, times)
