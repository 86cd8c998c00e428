"""What the old process says of itself beside its connections: what goes along with them, and what it counts."""

from __future__ import annotations

from collections.abc import Callable

import trio

from xproxy.migration import counts as counting
from xproxy.migration.carry import collecting
from xproxy.migration.faults import fault
from xproxy.migration.messages import Carry, Counts
from xproxy.migration.serving import relayed
from xproxy.migration.speaking import Speaking
from xproxy.migration.waiting import Waiting
from xproxy.observe.takeover import TakeoverStatus
from xproxy.proxy.runtime import Runtime
from xproxy.transport.breather import unhurried


class Telling:
    """Of one takeover."""

    def __init__(
        self,
        runtime: Runtime,
        speaking: Speaking,
        clients: Waiting,
        status: TakeoverStatus,
        *,
        rehearsal: bool,
    ) -> None:
        self._runtime = runtime
        self._speaking = speaking
        self._clients = clients
        self._status = status
        # What is only tried is told to nobody.
        self._counts = counting.Counts(runtime) if rehearsal else counting.teller(runtime)
        self._counting = trio.Lock()

    async def describe(self, wanted: Callable[[], bool]) -> None:
        """Say what goes along: CARRY, the last one marked; in small steps, and only if it is ``wanted`` by then."""
        parts = await unhurried(collecting(self._runtime))
        if not wanted():
            return
        for part in parts:
            message = Carry(kind=part.kind, name=part.name, version=part.version)
            self._speaking.say(message, part.data)
        self._speaking.say(Carry(kind="", name="", version=0, last=True))
        fault("give.described")

    async def count(self) -> None:
        """Say what was counted since the last time: COUNTS. In small steps; one after the other."""
        async with self._counting:
            counted = await unhurried(self._counts.telling_more())
            left = self._clients.by_protocol()
            self._status.wait(left)
            self._status.relaying(relayed(self._runtime))
            self._speaking.say(Counts(left=left), counted)

    def untold(self, counted: bytes) -> None:
        """What was beside a COUNTS was not sent."""
        self._counts.untold(counted)

    def lost(self) -> None:
        """The other process has ended with all that it was told."""
        self._counts.lost()
