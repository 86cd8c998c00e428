"""A body that arrives in pieces on a shared connection: fed by the reader, taken by the stream."""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

import trio
from trio.abc import ReceiveChannel

from xproxy.connection.shared.wire import SharedWire
from xproxy.model.errors import StreamError
from xproxy.model.frames import Data, Trailers
from xproxy.model.limits import KIB, MIB
from xproxy.stream.body import BytesBody
from xproxy.stream.held import COUNTED, Share
from xproxy.stream.links import Note, Stays

_COLLECTED: Final = 64 * KIB
"""Bytes of a body that is taken as one, if it came in pieces of one read; above it pieces are as good."""
_TINY: Final = 1024
"""Bytes of a piece below which it is passed on with those that follow it, if they are here."""


class Owner(Protocol):
    """Who wants to know that a body is given up before its end."""

    def release(self, stream_id: int) -> None:
        """The body is not wanted any more."""
        ...


class Inflow(ReceiveChannel[bytes | Trailers]):
    """Bounded by the codec's windows; where it has none, by ``LIMIT``, at which the connection stops reading."""

    __slots__ = (
        "_closed",
        "_counted",
        "_error",
        "_items",
        "_owner",
        "_room",
        "_share",
        "_size",
        "_stream_id",
        "_waiting",
        "_wire",
        "complete",
    )
    LIMIT = MIB

    def __init__(
        self,
        wire: SharedWire,
        stream_id: int,
        first: bytes,
        share: Share | None = None,
        owner: Owner | None = None,
    ) -> None:
        """``share``: whose bytes they are; None: nobody counts them. ``owner``: who is told if it is given up."""
        self._wire = wire
        self._owner = owner
        self._share = share
        self._counted = 0
        self._stream_id = stream_id
        self._items: deque[bytes | Trailers] = deque((first,) if first else ())
        self._size = len(first)
        self._error: StreamError | None = None
        # Made when somebody waits: mostly the whole body is here before anybody asks for it.
        self._waiting: trio.lowlevel.ParkingLot | None = None
        self._room: trio.lowlevel.ParkingLot | None = None
        self._closed = False
        self.complete = False
        """Its end has arrived; pieces may still wait to be taken."""

    @property
    def failure(self) -> StreamError | None:
        """Why it broke off, if it did."""
        return self._error

    @property
    def full(self) -> bool:
        return self._size >= self.LIMIT

    def feed(self, frame: Data | Trailers) -> None:
        """Take the next piece. Never blocks."""
        data = b"" if isinstance(frame, Trailers) else frame.data
        self.complete = isinstance(frame, Trailers) or frame.end
        if self._closed:
            # Nobody takes it: the window must not leak.
            self._wire.consumed(self._stream_id, len(data))
            return
        if isinstance(frame, Trailers):
            self._items.append(frame)
        elif data:
            self._items.append(data)
            self._size += len(data)
            if self._size >= COUNTED:
                self._recount()
        if self._waiting is not None:
            self._waiting.unpark_all()

    def _recount(self) -> None:
        # What is less than ``COUNTED`` was never counted, and is not taken back.
        share = self._share
        change = (self._size if self._size >= COUNTED else 0) - self._counted
        if share is None or not change:
            return
        self._counted += change
        if change > 0:
            share.add(change)
        else:
            share.take(-change)

    def fail(self, error: StreamError) -> None:
        """Break the body off."""
        if not self.complete and self._error is None:
            self._error = error.again()
            self._wake()

    def _wake(self) -> None:
        for lot in (self._waiting, self._room):
            if lot is not None:
                lot.unpark_all()

    def collect(self) -> BytesBody | None:
        """Return the whole body, if it is here and not large; nothing is left to receive then.

        The peer has its credit back at once, as for a message that came in one frame.
        """
        items = self._items
        if not self.complete or self._size > _COLLECTED or self._error is not None or self._closed:
            return None
        last = items[-1] if items else None
        trailers = last if isinstance(last, Trailers) else None
        if trailers is not None:
            items.pop()
        data = items[0] if len(items) == 1 else b"".join(items)  # type: ignore[arg-type]  # trailers come last
        items.clear()
        size, self._size = self._size, 0
        if self._counted:
            self._recount()
        if size:
            self._wire.consumed(self._stream_id, size)
        return BytesBody(data, trailers)  # type: ignore[arg-type]  # as above

    async def room(self) -> None:
        """Wait until less than ``LIMIT`` bytes wait."""
        while self._size >= self.LIMIT and self._error is None:
            self._room = self._room or trio.lowlevel.ParkingLot()
            await self._room.park()

    async def receive(self) -> bytes | Trailers:
        """See Body."""
        while not self._items:
            if self._error is not None:
                raise self._error.again()
            if self._closed:
                raise trio.ClosedResourceError("the body was given up")
            if self.complete:
                raise trio.EndOfChannel
            self._waiting = self._waiting or trio.lowlevel.ParkingLot()
            await self._waiting.park()
        item = self._items.popleft()
        if isinstance(item, bytes):
            if len(item) < _TINY and self._items:
                item = self._join(item)
            self._size -= len(item)
            if self._counted:
                self._recount()
            self._wire.consumed(self._stream_id, len(item))
            if self._room is not None:
                self._room.unpark_all()
        return item

    def _join(self, first: bytes) -> bytes:
        # Tiny pieces cost each as much as a large one from here on.
        pieces = [first]
        size = len(first)
        items = self._items
        while items and size < _COLLECTED and not isinstance(items[0], Trailers):
            pieces.append(items[0])
            size += len(items[0])
            items.popleft()
        return b"".join(pieces)

    def note(self) -> tuple[object | None, Note | None]:
        """See SupportsNote. Raises Stays: others need its connection where it is."""
        raise Stays("one of its connections is shared with others")

    def depart(self) -> None:
        """See SupportsNote: never called, as it stays."""

    async def aclose(self) -> None:
        """Give the body up: the peer need not send the rest. Idempotent; no checkpoint."""
        if self._closed:
            return
        self._closed = True
        if self._size:
            self._wire.consumed(self._stream_id, self._size)
            self._size = 0
            if self._counted:
                self._recount()
        self._items.clear()
        self._wake()
        if self._owner is not None and not self.complete and self._error is None:
            self._owner.release(self._stream_id)
