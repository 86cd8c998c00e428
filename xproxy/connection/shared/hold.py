"""A shared connection that reads no more for a while: until there is room for answers, for a body, or for streams."""

from __future__ import annotations

import trio

from xproxy.connection.shared.inflow import Inflow
from xproxy.connection.shared.served import Served
from xproxy.connection.shared.wire import SharedWire
from xproxy.model.traits import Role


class Hold:
    """What one connection's reader waits for. It costs nothing while nothing is short."""

    __slots__ = ("_served", "_wire", "congested")

    def __init__(self, wire: SharedWire, served: Served) -> None:
        self._wire = wire
        self._served = served
        self.congested: Inflow | None = None
        """A body without a window, of which as much waits as may."""

    async def wait(self) -> None:
        """Return when there is room. Meanwhile nobody would see the peer hang up, but for the watch."""
        wire = self._wire
        wire.read_disabled = True
        with trio.CancelScope() as scope:
            wire.stream.watch(scope)
            try:
                await self._room()
            finally:
                wire.stream.watch(None)
                wire.read_disabled = False
        if scope.cancelled_caught:
            # What it sent before that is still to be read; it is not much, and may be one-way.
            self._served.client_gone()
            await self._room()

    async def _room(self) -> None:
        wire = self._wire
        if wire.role is Role.SERVER:
            await wire.outbox.room()
        share = wire.facts.share
        if share.full:
            await share.room()
        if self.congested is not None:
            await self.congested.room()
            self.congested = None
        await self._served.room()
