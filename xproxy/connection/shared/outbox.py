"""What waits for one connection's socket: many streams put, one task writes.

A tick's frames leave in one system call. The bound makes producers wait, not the memory grow.
"""

from __future__ import annotations

import sys
from typing import Final, Protocol

import attrs
import trio

from xproxy.connection.service import DownstreamStats
from xproxy.connection.wire import WriteStalled
from xproxy.stream.held import COUNTED, Share
from xproxy.transport.parking import Reason
from xproxy.transport.poller import AWAKE
from xproxy.transport.stream import ByteStream

_NOTHING: Final = memoryview(b"")
FOREVER: Final = 1e9
"""Seconds that stand for ever."""


class Streamed(Protocol):
    """Whoever has a stream, and maybe another one later."""

    @property
    def stream(self) -> ByteStream: ...


@attrs.frozen
class Aside:
    """What waits in an outbox whose connection may go on elsewhere."""

    rest: memoryview
    chunks: list[bytes]
    size: int
    going: int
    counted: int
    going_counted: int
    stats: DownstreamStats | None
    stall: float


class Outbox:
    """Bytes in order, and their writer. ``run`` owns the writing; nobody else writes to the wire's stream."""

    __slots__ = (
        "_chunks",
        "_closing",
        "_counted",
        "_ended",
        "_going",
        "_going_counted",
        "_held",
        "_rest",
        "_room",
        "_share",
        "_stall",
        "_stats",
        "_writer",
        "limit",
        "size",
        "written",
    )

    def __init__(
        self,
        limit_bytes: int,
        stall_seconds: float,
        stats: DownstreamStats | None = None,
        share: Share | None = None,
    ) -> None:
        """``stats``: where the bytes that leave are counted; None: nowhere else than here.

        ``share``: whose bytes they are; None: nobody counts them.
        """
        self._share = share
        self._counted = 0  # of what waits, that which was long enough
        self.size = 0
        """Bytes waiting."""
        self.written = 0
        """Bytes handed to the kernel so far."""
        self._chunks: list[bytes] = []
        self._rest = _NOTHING
        """Of what was handed to the kernel, that which it has not taken yet."""
        self._going = 0
        """Bytes that it was part of …"""
        self._going_counted = 0
        """… and how many were counted when these were taken."""
        self.limit = limit_bytes
        """Bytes from which on whoever has more must wait for room: see ``full``, and who has no time for calls."""
        self._stall = stall_seconds or FOREVER
        self._stats = stats
        self._writer: trio.lowlevel.Task | None = None
        self._room = trio.lowlevel.ParkingLot()
        self._closing = False
        self._held: int | None = None
        """While nothing may go: the limit that there is otherwise."""
        self._ended = False

    @property
    def full(self) -> bool:
        """Whether producers should wait."""
        return self.size >= self.limit

    def put(self, data: bytes) -> None:
        """Add bytes; they go out when the tasks of this tick have run. Never blocks: wait with ``room`` first.

        Once nobody writes any more they are dropped.
        """
        if not data or self._ended:
            return
        size = len(data)
        self._chunks.append(data)
        self.size += size
        if size >= COUNTED and self._share is not None:
            self._counted += size
            self._share.add(size)
        writer = self._writer
        if writer is not None and self._held is None:
            self._writer = None
            trio.lowlevel.reschedule(writer, AWAKE)

    async def room(self) -> None:
        """Wait until the outbox is below its limit, or nobody writes any more. A checkpoint only if it is not."""
        while self.size >= self.limit:
            await self._room.park()

    def finish(self) -> None:
        """Let ``run`` return once all is written."""
        self._closing = True
        self._wake()

    def hold(self) -> None:
        """Let nothing go, and nobody have room, until ``release``: what is put meanwhile is unsent."""
        self._held, self.limit = self.limit, 0

    def release(self) -> None:
        """Let it go again. Idempotent."""
        if self._held is not None:
            self.limit, self._held = self._held, None
            self._wake()
            self._room.unpark_all()

    def _wake(self) -> None:
        writer = self._writer
        if writer is not None:
            self._writer = None
            trio.lowlevel.reschedule(writer, AWAKE)

    def unsent(self) -> bytes:
        """Return all that has not gone yet, in order."""
        return b"".join((self._rest, *self._chunks))

    def set_aside(self) -> Aside:
        """Take out what waits, while it is held: from here on the outbox is that of another stream, without figures.

        Whoever has it back puts it back, or lets it go (``drop``).
        """
        assert self._held is not None
        aside = Aside(
            self._rest,
            self._chunks,
            self.size,
            self._going,
            self._counted,
            self._going_counted,
            self._stats,
            self._stall,
        )
        self._clear()
        self._stats, self._stall = None, FOREVER
        return aside

    def put_back(self, aside: Aside) -> None:
        """Go on as before ``set_aside``, in place of all that was put since."""
        if self._counted:
            self._let_go(self._counted)
        self._rest, self._chunks, self.size = aside.rest, aside.chunks, aside.size
        self._going, self._counted = aside.going, aside.counted
        self._going_counted = aside.going_counted
        self._stats, self._stall = aside.stats, aside.stall

    def drop(self, aside: Aside) -> None:
        """What was set aside is somebody else's."""
        if aside.counted and self._share is not None:
            self._share.take(aside.counted)

    def _clear(self) -> None:
        self._rest, self._chunks = _NOTHING, []
        self.size = self._going = self._counted = self._going_counted = 0

    async def run(self, wire: Streamed) -> None:
        """Write until ``finish``. Raises as ``write_now`` does; WriteStalled if the peer stops taking bytes."""
        idle = Reason(self._abort)
        try:
            while True:
                if self._held is not None or not (self._chunks or self._rest):
                    if self._closing:
                        return  # where it is held another process has the rest
                    self._writer = trio.lowlevel.current_task()
                    await idle.parked()
                    continue
                if not self._rest:
                    chunks, self._chunks = self._chunks, []
                    self._going_counted = self._counted
                    data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
                    # A peer that does not read must not hold all of it twice.
                    chunks.clear()
                    size = self._going = len(data)
                    sent = wire.stream.write_now(data)
                    self.written += sent
                    if self._stats is not None:
                        self._stats.downstream_tx_bytes_total += sent
                    if sent != size:
                        self._rest = memoryview(data)[sent:]
                    data = b""  # while it waits for the next bytes it holds none of the last
                if self._rest and not await self._write_rest(wire):
                    continue
                self.size -= self._going
                self._going = 0
                if self._going_counted:
                    counted, self._going_counted = self._going_counted, 0
                    self._let_go(counted)
                if self._room:
                    self._room.unpark_all()
        finally:
            if self._counted:
                self._let_go(self._counted)
            self._share = None
            self._chunks.clear()
            self._rest = _NOTHING
            # Those who wait for room may not belong to this connection: nobody else would wake them.
            self.limit = sys.maxsize
            self._ended = True
            self._room.unpark_all()

    def _let_go(self, count: int) -> None:
        self._counted -= count
        if self._share is not None:
            self._share.take(count)

    async def _write_rest(self, wire: Streamed) -> bool:
        # Whether all has gone; else it is held, and may have been set aside meanwhile.
        while self._rest:
            try:
                with trio.move_on_after(self._stall) as scope:
                    await wire.stream.wait_writable()
            except trio.ClosedResourceError:
                if self._held is None and self._rest:
                    raise
            if self._held is not None or not self._rest:
                return False
            if scope.cancelled_caught:
                raise WriteStalled(f"the peer took nothing for {self._stall:g} s")
            more = wire.stream.write_now(self._rest)
            self._rest = self._rest[more:]
            self.written += more
            if self._stats is not None:
                self._stats.downstream_tx_bytes_total += more
        self._rest = _NOTHING
        return True

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._writer = None
        return trio.lowlevel.Abort.SUCCEEDED
