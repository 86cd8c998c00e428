"""Two proxies in this process, and a takeover from the one to the other over a real channel."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import TypeVar

import attrs
import trio

from tests.live import PATIENCE, Live, registry
from xproxy.migration import giver, taker
from xproxy.migration.giver import give
from xproxy.migration.messages import (
    VERSIONS,
    Accepting,
    Carry,
    Counts,
    Hello,
    Message,
    Ready,
    Settled,
    Stopped,
    pack,
    unpack,
)
from xproxy.migration.pace import Pace
from xproxy.migration.taker import take
from xproxy.proxy.runtime import Runtime
from xproxy.transport.channel import Channel, Received

M = TypeVar("M", bound=Message)

NEW = Hello(versions=VERSIONS, software="a test")
QUICK = Pace(patience=PATIENCE, canary=0.05)


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


@asynccontextmanager
async def successor(text: str, of: Live) -> AsyncIterator[Live]:
    """Run a proxy that accepts nobody yet, with copies of the listening sockets of another one."""
    plugins = registry()
    live = Live(Runtime(plugins, Random(7)), plugins)
    live.runtime.hold()
    async with trio.open_nursery() as nursery:
        await nursery.start(live.runtime.run, live.parse(text))
        try:
            yield live
        finally:
            live.hang_up_all()
            nursery.cancel_scope.cancel()


@attrs.define(eq=False)
class Takeover:
    """How one went."""

    given: giver.Outcome | None = None
    taken: taker.Outcome | None = None
    reports: list[Mapping[str, object]] = attrs.field(factory=list)


async def take_over(
    old: Live,
    new: Live,
    *,
    pace: Pace = QUICK,
    rehearsal: bool = False,
    into: Takeover | None = None,
) -> Takeover:
    """Let the one take the place of the other, to the end."""
    found = into or Takeover()
    ours, theirs = pair()

    async def giving() -> None:
        found.given = await give(
            old.runtime, ours, found.reports.append, pace=pace, rehearsal=rehearsal
        )

    async def taking() -> None:
        found.taken = await take(new.runtime, theirs, found.reports.append)

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(giving)
            nursery.start_soon(taking)
    return found


class Other:
    """The other side of a takeover, played by a test."""

    def __init__(self, sock: socket.socket) -> None:
        self.channel = Channel(sock)
        self.received: list[Received] = []

    async def say(self, message: Message, *descriptors: int, state: bytes | None = None) -> None:
        await self.channel.send(pack(message), descriptors, state, within=PATIENCE)

    async def hear(self, wanted: type[M]) -> M:
        """Return the next message, which is of this kind; COUNTS and SETTLED in between are passed over."""
        while True:
            with trio.fail_after(PATIENCE):
                received = await self.channel.receive()
            assert received is not None, f"the end, and no {wanted.__name__}"
            self.received.append(received)
            message = unpack(received.message)
            if isinstance(message, wanted):
                return message
            assert isinstance(message, Counts | Settled), f"{message}, and no {wanted.__name__}"

    async def end(self) -> None:
        """Wait for the end."""
        with trio.fail_after(PATIENCE):
            while (received := await self.channel.receive()) is not None:
                self.received.append(received)

    def close(self) -> None:
        for received in self.received:
            received.close()
        self.channel.close()

    # ---- as the new process

    async def until_giving(self, hello: Hello = NEW) -> None:
        """Say and hear what comes before the first offer."""
        await self.hear(Hello)
        await self.say(hello)
        while not (await self.hear(Carry)).last:
            pass
        await self.say(Ready(listeners=("edge",)))
        await self.hear(Stopped)
        await self.say(Accepting(listeners=("edge",)))

    # ---- as the old process

    async def until_taking(self) -> None:
        """Say and hear what comes before the first offer."""
        await self.say(Hello(versions=VERSIONS, software="a test"))
        await self.hear(Hello)
        await self.say(Carry(kind="", name="", version=0, last=True))
        await self.hear(Ready)
        await self.say(Stopped(last_id=41))
        await self.hear(Accepting)


@asynccontextmanager
async def giving_to(old: Live, *, pace: Pace = QUICK) -> AsyncIterator[tuple[Other, Takeover]]:
    """Let a proxy give to a process that the test plays. At the end the takeover is over."""
    found = Takeover()
    ours, theirs = pair()
    other = Other(theirs)

    async def giving() -> None:
        found.given = await give(old.runtime, ours, found.reports.append, pace=pace)

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(giving)
            try:
                yield other, found
            finally:
                other.close()


@asynccontextmanager
async def taking_from(new: Live) -> AsyncIterator[tuple[Other, Takeover]]:
    """Let a proxy take from a process that the test plays. At the end the takeover is over."""
    found = Takeover()
    ours, theirs = pair()
    other = Other(theirs)

    async def taking() -> None:
        found.taken = await take(new.runtime, ours, found.reports.append)

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(taking)
            try:
                yield other, found
            finally:
                other.close()
