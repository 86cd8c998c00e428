"""A body that arrives in pieces on a shared connection: fed by the reader, taken by the stream."""

from __future__ import annotations

from collections import deque
from typing import Protocol

import trio
from trio.abc import ReceiveChannel

from xproxy.model.errors import StreamError
from xproxy.model.frames import Data, Trailers
from xproxy.model.limits import MIB


class Carrier(Protocol):
    """The connection that feeds an Inflow."""

    def consumed(self, stream_id: int, count: int) -> None:
        """Bytes were taken: the peer may send as many again."""
        ...

    def release(self, stream_id: int) -> None:
        """The body is not wanted any more."""
        ...


class Inflow(ReceiveChannel[bytes | Trailers]):
    """Bounded by the codec's windows; where it has none, by ``LIMIT``, at which the connection stops reading."""

    __slots__ = (
        "_carrier",
        "_closed",
        "_error",
        "_items",
        "_room",
        "_size",
        "_stream_id",
        "_waiting",
        "complete",
    )
    LIMIT = MIB

    def __init__(self, carrier: Carrier, stream_id: int, first: bytes) -> None:
        self._carrier = carrier
        self._stream_id = stream_id
        self._items: deque[bytes | Trailers] = deque((first,) if first else ())
        self._size = len(first)
        self._error: StreamError | None = None
        self._waiting = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._closed = False
        self.complete = False
        """Its end has arrived; pieces may still wait to be taken."""

    @property
    def full(self) -> bool:
        return self._size >= self.LIMIT

    def feed(self, frame: Data | Trailers) -> None:
        """Take the next piece. Never blocks."""
        data = b"" if isinstance(frame, Trailers) else frame.data
        self.complete = isinstance(frame, Trailers) or frame.end
        if self._closed:
            self._carrier.consumed(
                self._stream_id, len(data)
            )  # nobody takes it: the window must not leak
            return
        if isinstance(frame, Trailers):
            self._items.append(frame)
        elif data:
            self._items.append(data)
            self._size += len(data)
        self._waiting.unpark_all()

    def fail(self, error: StreamError) -> None:
        """Break the body off."""
        if not self.complete and self._error is None:
            self._error = error
            self._waiting.unpark_all()
            self._room.unpark_all()

    async def room(self) -> None:
        """Wait until less than ``LIMIT`` bytes wait."""
        while self._size >= self.LIMIT and self._error is None:
            await self._room.park()

    async def receive(self) -> bytes | Trailers:
        """See Body."""
        while not self._items:
            if self._error is not None:
                raise self._error
            if self._closed:
                raise trio.ClosedResourceError("the body was given up")
            if self.complete:
                raise trio.EndOfChannel
            await self._waiting.park()
        item = self._items.popleft()
        if isinstance(item, bytes):
            self._size -= len(item)
            self._carrier.consumed(self._stream_id, len(item))
            if self._room:
                self._room.unpark_all()
        return item

    async def aclose(self) -> None:
        """Give the body up: the peer need not send the rest. Idempotent; no checkpoint."""
        if self._closed:
            return
        self._closed = True
        if self._size:
            self._carrier.consumed(self._stream_id, self._size)
            self._size = 0
        self._items.clear()
        self._room.unpark_all()
        self._waiting.unpark_all()
        if not self.complete and self._error is None:
            self._carrier.release(self._stream_id)
