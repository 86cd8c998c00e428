"""Exchanges cut at any step of any task: frozen there, held for some steps, and then moved or thawed."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import attrs
import trio
from trio.testing import wait_all_tasks_blocked

from tests.live import PATIENCE, Live, Upstream, eventually, running, upstream
from tests.proxy.flows import receive
from tests.secure import context, peer
from tests.transport.tls.kit import SslPeer, issued
from xproxy.connection.serial.downstream import SerialDownstream
from xproxy.connection.standing import Moment, Standing

Script: TypeAlias = Callable[[trio.abc.HalfCloseableStream], Awaitable[bytes]]
"""Plays one peer over its stream, and returns all that it got."""


class Cutter(trio.abc.Instrument):
    """Cuts the one connection of a proxy between two steps of its tasks: nobody has a say in where.

    At step ``at`` and then every ``every`` steps, or as soon as it flows, it freezes; ``hold`` steps later the
    connection goes on: at the other proxy for ``m`` in ``plan``, and where it was for ``t``.
    """

    def __init__(
        self, lives: Sequence[Live], at: int, plan: str, *, every: int = 7, hold: int = 3
    ) -> None:
        self.lives = list(lives)
        self.steps = 0
        self.done = 0
        """How often it has cut."""
        self.failure: BaseException | None = None
        self._next = at
        self._plan = plan
        self._every = every
        self._hold = hold
        self._frozen: tuple[SerialDownstream, Moment] | None = None

    @property
    def holds(self) -> bool:
        """Something stands still."""
        return self._frozen is not None

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1
        if self.steps >= self._next and self.done < len(self._plan) and self.failure is None:
            try:
                self._cut()
            except BaseException as exc:  # Trio would only log it
                self.failure = exc

    def _cut(self) -> None:
        if self._frozen is not None:
            driver, moment = self._frozen
            self._frozen = None
            self._next = self.steps + self._every
            if self._plan[self.done] == "m":
                receive(self.lives[1], moment, driver.facts)
                driver.leave()
                self.lives.reverse()
            else:
                driver.thaw()
            self.done += 1
            return
        for connection in self.lives[0].runtime.listeners["edge"].connections.values():
            found = connection.driver
            if isinstance(found, SerialDownstream) and found.standing is Standing.FLOWING:
                self._frozen = found, found.freeze()
                self._next = self.steps + self._hold


@attrs.define(eq=False)
class Counting(trio.abc.HalfCloseableStream):
    """A stream that counts what passes."""

    stream: trio.abc.HalfCloseableStream
    sent: int = 0
    received: int = 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += len(data)
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = await self.stream.receive_some(max_bytes)
        self.received += len(data)
        return bytes(data)

    async def send_eof(self) -> None:
        await self.stream.send_eof()

    async def aclose(self) -> None:
        await self.stream.aclose()


@attrs.define(eq=False)
class Pair:
    """Two proxies of one configuration, with an access log each."""

    lives: tuple[Live, Live]
    up: Upstream
    logs: tuple[Path, Path]
    seen: int = 0
    client: Counting | None = None
    """The last one's stream."""

    async def lines(self, count: int) -> list[dict[str, object]]:
        """Return the lines that both logs have got, once there are so many more than before."""

        def all_of() -> list[str]:
            return [line for log in self.logs for line in log.read_text().splitlines()]

        await eventually(lambda: len(all_of()) >= self.seen + count, "the lines are written")
        found = all_of()
        assert len(found) == self.seen + count, found
        self.seen = len(found)
        return [json.loads(line) for line in found]

    def total(self, name: str) -> int:
        """Return the sum of a counter of both listeners."""
        return sum(getattr(live.stats(), name) for live in self.lives)

    def asked(self, name: str) -> int:
        """Return the sum of a counter of both clusters."""
        return sum(getattr(live.cluster().stats, name) for live in self.lives)


@asynccontextmanager
async def pair(text: str, folder: Path) -> AsyncIterator[Pair]:
    """Run two; ``text`` has places for ``{port}`` of the upstream and ``{log}``."""
    logs = (folder / "one.log", folder / "two.log")
    async with upstream() as up:
        one, two = (text.format(port=up.port, log=log) for log in logs)
        async with running(one) as first, running(two) as second:
            yield Pair((first, second), up, logs)


async def play(
    pair: Pair,
    client: Script,
    server: Script,
    cutter: Cutter | None = None,
    *,
    tls: str = "",
    version: str = "TLSv1_3",
) -> tuple[bytes, bytes]:
    """Play both peers over one connection; return what each of them got. ``tls``: see ``connect``, ``dressed``."""
    got: dict[str, bytes] = {}
    live = pair.lives[0]
    opened: list[trio.abc.HalfCloseableStream] = []
    ours = pair.client = Counting(await connect(live, tls, version))

    async def serve() -> None:
        theirs = await dressed(await pair.up.accept(), tls)
        opened.append(theirs)
        got["server"] = await server(theirs)

    async def ask() -> None:
        got["client"] = await client(ours)

    async def tick() -> None:
        # There is always a next step, also when everybody waits for what stands still.
        while True:  # noqa: ASYNC110  # time is the event
            await trio.sleep(0.001)

    if cutter is not None:
        trio.lowlevel.add_instrument(cutter)
    try:
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as ticking:
                ticking.start_soon(tick)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(serve)
                    nursery.start_soon(ask)
                while cutter is not None and cutter.holds:
                    await trio.lowlevel.checkpoint()
                ticking.cancel_scope.cancel()
    finally:
        if cutter is not None:
            trio.lowlevel.remove_instrument(cutter)
            if cutter.failure is not None:
                raise cutter.failure
    for stream in (ours, *opened):
        await trio.aclose_forcefully(stream)
    await wait_all_tasks_blocked(0.002)  # whoever pools the upstream's has seen its end
    return got["client"], got["server"]


async def connect(live: Live, tls: str, version: str = "TLSv1_3") -> trio.abc.HalfCloseableStream:
    """Connect a client, in TLS where ``tls`` names ``tls-down``."""
    if "tls-down" in tls:
        return await peer(live, context(low=version, high=version))
    return await live.connect()


async def dressed(stream: trio.SocketStream, tls: str) -> trio.abc.HalfCloseableStream:
    """Return the stream as an upstream has it, in TLS where ``tls`` names ``tls-up``."""
    if "tls-up" not in tls:
        return stream
    found = issued("127.0.0.1")
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(found.cert, found.key)
    secure = SslPeer(stream, made)
    await secure.handshake()
    return secure
