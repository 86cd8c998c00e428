"""A shared connection that reads no more for a while: until there is room for answers, for a body, or for streams."""

from __future__ import annotations

from typing import Protocol

import trio

from xproxy.connection.shared.inflow import Inflow
from xproxy.connection.shared.outbox import Outbox
from xproxy.model.traits import Role
from xproxy.stream.held import Share
from xproxy.transport.stream import ByteStream


class Holdable(Protocol):
    """The connection as this sees it."""

    stream: ByteStream
    outbox: Outbox
    role: Role
    deaf: bool
    share: Share

    @property
    def crowded(self) -> bool:
        """As many of the peer's streams are in flight as may be."""
        ...

    def forsake(self) -> None:
        """Nobody waits for answers any more."""
        ...


class Hold:
    """What one connection's reader waits for. It costs nothing while nothing is short."""

    __slots__ = ("_connection", "_streams", "congested", "wants_streams")

    def __init__(self, connection: Holdable) -> None:
        self._connection = connection
        self._streams = trio.lowlevel.ParkingLot()
        self.congested: Inflow | None = None
        """A body without a window, of which as much waits as may."""
        self.wants_streams = False
        """Whoever ends a stream must say so."""

    async def wait(self) -> None:
        """Return when there is room. Meanwhile nobody would see the peer hang up, but for the watch."""
        connection = self._connection
        connection.deaf = True
        with trio.CancelScope() as scope:
            connection.stream.watch(scope)
            try:
                await self._room()
            finally:
                connection.stream.watch(None)
                connection.deaf = False
        if scope.cancelled_caught:
            # What it sent before that is still to be read; it is not much, and may be one-way.
            connection.forsake()
            await self._room()

    def leave(self, remains: Holdable) -> None:
        """The connection has ended: know only what is left of it."""
        self._connection = remains

    def stream_ended(self) -> None:
        """There may be room for another stream."""
        self._streams.unpark_all()

    async def _room(self) -> None:
        connection = self._connection
        if connection.role is Role.SERVER:
            await connection.outbox.room()
        if connection.share.full:
            await connection.share.room()
        if self.congested is not None:
            await self.congested.room()
            self.congested = None
        self.wants_streams = True
        try:
            while connection.crowded:
                await self._streams.park()
        finally:
            self.wants_streams = False
