"""What waits for one connection's socket: many streams put, one task writes.

A tick's frames leave in one system call. The bound makes producers wait, not the memory grow.
"""

from __future__ import annotations

import sys

import trio

from xproxy.transport.poller import AWAKE
from xproxy.transport.stream import ByteStream


class WriteStalled(trio.BrokenResourceError):
    """The peer took nothing for too long."""


class Outbox:
    """Bytes in order, and their writer. ``run`` owns the writing; nobody else writes to the stream."""

    __slots__ = (
        "_chunks",
        "_closing",
        "_limit",
        "_room",
        "_stall",
        "_stream",
        "_writer",
        "size",
        "written",
    )

    def __init__(self, stream: ByteStream, limit_bytes: int, stall_seconds: float) -> None:
        self.size = 0
        """Bytes waiting."""
        self.written = 0
        """Bytes handed to the kernel so far."""
        self._chunks: list[bytes] = []
        self._limit = limit_bytes
        self._stall = stall_seconds or 1e9
        self._stream = stream
        self._writer: trio.lowlevel.Task | None = None
        self._room = trio.lowlevel.ParkingLot()
        self._closing = False

    @property
    def full(self) -> bool:
        """Whether producers should wait."""
        return self.size >= self._limit

    def put(self, data: bytes) -> None:
        """Add bytes; they go out when the tasks of this tick have run. Never blocks: wait with ``room`` first."""
        if not data:
            return
        self._chunks.append(data)
        self.size += len(data)
        writer = self._writer
        if writer is not None:
            self._writer = None
            trio.lowlevel.reschedule(writer, AWAKE)

    async def room(self) -> None:
        """Wait until the outbox is below its limit, or nobody writes any more. A checkpoint only if it is not."""
        while self.size >= self._limit:
            await self._room.park()

    def finish(self) -> None:
        """Let ``run`` return once all is written."""
        self._closing = True
        writer = self._writer
        if writer is not None:
            self._writer = None
            trio.lowlevel.reschedule(writer, AWAKE)

    async def run(self) -> None:
        """Write until ``finish``. Raises trio.BrokenResourceError; WriteStalled if the peer stops taking bytes."""
        stream = self._stream
        try:
            while True:
                if not self._chunks:
                    if self._closing:
                        return
                    self._writer = trio.lowlevel.current_task()
                    await trio.lowlevel.wait_task_rescheduled(self._abort)
                    continue
                chunks = self._chunks
                data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
                # A peer that does not read must not hold all of it twice.
                chunks = self._chunks = []
                sent = stream.write_now(data)
                self.written += sent
                if sent != len(data):
                    await self._write_rest(data, sent)
                self.size -= len(data)
                if self._room:
                    self._room.unpark_all()
        finally:
            # Those who wait for room may not belong to this connection: nobody else would wake them.
            self._limit = sys.maxsize
            self._room.unpark_all()

    async def _write_rest(self, data: bytes, sent: int) -> None:
        with memoryview(data) as view:
            while sent < len(view):
                with trio.move_on_after(self._stall) as scope:
                    await self._stream.wait_writable()
                if scope.cancelled_caught:
                    raise WriteStalled(f"the peer took nothing for {self._stall:g} s")
                more = self._stream.write_now(view[sent:])
                sent += more
                self.written += more

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._writer = None
        return trio.lowlevel.Abort.SUCCEEDED
