"""Waiting for the peer to say how many requests it takes at a time on a connection."""

from __future__ import annotations

import trio

from xproxy.connection.shared.wire import SharedWire


class Settling:
    """Those who would rather know, on one connection."""

    __slots__ = ("_told", "_wire")

    def __init__(self, wire: SharedWire) -> None:
        self._wire = wire
        self._told: trio.Event | None = None

    @property
    def awaited(self) -> bool:
        """Whether anybody waits."""
        return self._told is not None

    async def wait(self, patience: float) -> None:
        """Return when the peer has said it, or after ``end``, or after ``patience`` seconds."""
        if self._settled:
            return
        if self._told is None:
            self._told = trio.Event()
        with trio.move_on_after(patience):
            await self._told.wait()

    def look(self) -> None:
        """The peer said something: see whether it was this."""
        if self._settled:
            self.end()

    @property
    def _settled(self) -> bool:
        # It has said it, or its protocol has no such bound.
        concurrency = self._wire.concurrency
        return concurrency is None or concurrency.settled

    def end(self) -> None:
        """It will say no more. Idempotent."""
        told, self._told = self._told, None
        if told is not None:
            told.set()
