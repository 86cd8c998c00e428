"""What waits for one connection's socket: many streams put, one task writes.

A tick's frames leave in one system call. The bound makes producers wait, not the memory grow.
"""

from __future__ import annotations

import sys
from typing import Final

import trio

from xproxy.connection.service import DownstreamStats
from xproxy.connection.wire import Wire, WriteStalled
from xproxy.stream.held import COUNTED, Share
from xproxy.transport.parking import Reason
from xproxy.transport.poller import AWAKE

_NOTHING: Final = memoryview(b"")


class Outbox:
    """Bytes in order, and their writer. ``run`` owns the writing; nobody else writes to the wire's stream."""

    __slots__ = (
        "_chunks",
        "_closing",
        "_counted",
        "_ended",
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
        self.limit = limit_bytes
        """Bytes from which on whoever has more must wait for room: see ``full``, and who has no time for calls."""
        self._stall = stall_seconds or 1e9
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

    async def run(self, wire: Wire) -> None:
        """Write until ``finish``. Raises as ``write_now`` does; WriteStalled if the peer stops taking bytes."""
        stats = self._stats
        idle = Reason(self._abort)
        try:
            while True:
                if not self._chunks or self._held is not None:
                    if self._closing:
                        return  # where it is held another process has the rest
                    self._writer = trio.lowlevel.current_task()
                    await idle.parked()
                    continue
                chunks, self._chunks = self._chunks, []
                counted = self._counted
                data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
                # A peer that does not read must not hold all of it twice.
                chunks.clear()
                size = len(data)
                sent = wire.stream.write_now(data)
                self.written += sent
                if stats is not None:
                    stats.downstream_tx_bytes_total += sent
                if sent != size:
                    self._rest = memoryview(data)[sent:]
                    await self._write_rest(wire)
                data = b""  # while it waits for the next bytes it holds none of the last
                self.size -= size
                if counted:
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

    async def _write_rest(self, wire: Wire) -> None:
        while self._rest:
            with trio.move_on_after(self._stall) as scope:
                await wire.stream.wait_writable()
            if scope.cancelled_caught:
                raise WriteStalled(f"the peer took nothing for {self._stall:g} s")
            more = wire.stream.write_now(self._rest)
            self._rest = self._rest[more:]
            self.written += more
            if self._stats is not None:
                self._stats.downstream_tx_bytes_total += more
        self._rest = _NOTHING

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._writer = None
        return trio.lowlevel.Abort.SUCCEEDED
