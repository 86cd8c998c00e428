"""Codec and socket of a connection with one stream at a time, and the frames that nobody has wanted yet.

No reader task and no channel: whoever wants a frame reads the socket for it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import trio

from xproxy.codecs.api import Codec
from xproxy.connection.flowing import Half
from xproxy.connection.phase import INPUT_OVER, Event, Phase
from xproxy.connection.service import DownstreamStats
from xproxy.connection.wire import Wire, WriteStalled
from xproxy.model.frames import Frame, GoAway, Reply, Violation
from xproxy.stream.held import COUNTED, FREE, Share
from xproxy.transport.stream import ByteStream
from xproxy.transport.turns import TINY

_SERVING: Final = Phase.SERVING
_NOTHING: Final = memoryview(b"")


class SerialWire(Wire):
    """One task pulls at a time, and one writes."""

    __slots__ = (
        "_half",
        "_waiting",
        "counted",
        "flushing",
        "inbox",
        "rest",
        "stats",
        "violation",
    )

    def __init__(
        self,
        stream: ByteStream,
        codec: Codec,
        stats: DownstreamStats | None = None,
        share: Share | None = None,
    ) -> None:
        super().__init__(stream, codec, share)
        self.counted = 0
        """Bytes that are counted: of the last read, or of what has not come whole."""
        self._half = 0
        """The latter."""
        self.stats = stats
        """Where bytes are counted; None: nowhere. Whoever reads or writes the stream itself counts them as well."""
        self.inbox: deque[Frame] = deque()
        self.rest = _NOTHING
        """What the kernel has not taken of the last write."""
        self.flushing = False
        """Somebody is writing the rest."""
        self._waiting: trio.lowlevel.ParkingLot | None = None  # made when two write: hardly ever
        self.violation: Violation | None = None

    async def fill(self) -> None:
        """Read once and decode; afterwards the inbox may still be empty. Raises like ``ByteStream.read``.

        Waits first while the process holds too much, unless little is held for this connection.
        """
        share = self.share
        if share is not None:
            if self.counted > self._half and not self.stream.pending:
                self.held(0)  # it has gone, and the next may take its time
            if share.held > FREE and share.full:
                await share.room()
        data = await self.stream.read()
        if self.stats is not None:
            self.stats.downstream_rx_bytes_total += len(data)
        frames = self.codec.receive(data) if data else self.end()
        self.inbox.extend(frames)
        if share is not None and (len(data) >= COUNTED or self.counted):
            self.held(len(data), half=not frames)
        if len(data) > TINY or not frames:
            self.stream.settle()

    def held(self, count: int, *, half: bool = False) -> None:
        """Count what was read last, until the next time. ``half``: it is more of a message that is not whole yet.

        Only reads of ``COUNTED`` bytes need be told, and any other behind half a message.
        """
        share = self.share
        if share is None:
            return
        if half:
            count += self._half
        unfinished = count if half else 0
        share.unfinished += unfinished - self._half
        self._half = unfinished
        before, self.counted = self.counted, count
        share.change(before, count)

    def count(self, half: Half) -> None:
        """Count what another process had read of a body, and had not passed on."""
        count = len(half.first) + sum(len(piece.data) for piece in half.inbox)
        if count >= COUNTED:
            self.held(count)

    def let_go(self) -> None:
        """Nothing that was read is held any more. Idempotent."""
        if self.counted:
            self.held(0)

    def end(self) -> Sequence[Frame]:
        """The peer's input has ended: return what the codec makes of it."""
        self.after(Event.END)
        return self.codec.receive(None)

    async def pull(self) -> Frame | None:
        """Return the next frame of the stream, reading as needed; None at the end of input.

        Replies are written, GoAway and Violation noted (a Violation is also returned).
        """
        inbox = self.inbox
        while True:
            while inbox:
                frame = inbox.popleft()
                kind = type(frame)
                if kind is Reply:
                    await self.write(frame.data)  # type: ignore[union-attr]  # by kind
                elif kind is GoAway:
                    self.after(Event.GOODBYE)
                else:
                    if kind is Violation:
                        self.violation = frame  # type: ignore[assignment]  # by kind
                        self.after(Event.VIOLATION)
                    return frame
            if self.phase is not _SERVING and self.phase in INPUT_OVER:
                return None
            await self.fill()

    # ---- out

    async def write(self, data: bytes) -> None:
        """Write all of ``data``. A checkpoint only where the kernel does not take it at once.

        Behind what has not gone yet, which goes with it.
        """
        if self.rest:
            self.rest = memoryview(b"".join((self.rest, data)))
        else:
            sent = self.stream.write_now(data)
            if self.stats is not None:
                self.stats.downstream_tx_bytes_total += sent
            if sent == len(data):
                return
            self.rest = memoryview(data)[sent:]
        data = b""
        await self.flush()

    async def flush(self, moved: Callable[[], None] | None = None, stall: float = math.inf) -> None:
        """Return when nothing is left to write; ``moved`` is called as often as some of it has gone.

        Raises WriteStalled where nothing has for ``stall`` seconds, and what ``write_now`` raises.
        """
        while self.rest:
            if self.flushing:
                await self._others(stall)
            elif await self._write_some(stall) and moved is not None:
                moved()

    async def _write_some(self, stall: float) -> int:
        self.flushing = True
        try:
            if stall == math.inf:
                await self.stream.wait_writable()
            else:
                with trio.move_on_after(stall) as scope:
                    await self.stream.wait_writable()
                if scope.cancelled_caught:
                    if self.paused:
                        return 0  # it was asked for nothing
                    raise _stalled(stall)
            sent = self.stream.write_now(self.rest)
        finally:
            self.flushing = False
            if self._waiting is not None:
                self._waiting.unpark_all()
        self.rest = self.rest[sent:] or _NOTHING
        if self.stats is not None:
            self.stats.downstream_tx_bytes_total += sent
        return sent

    async def _others(self, stall: float) -> None:
        # Somebody else is writing: what he does not write is ours to write.
        self._waiting = self._waiting or trio.lowlevel.ParkingLot()
        with trio.move_on_after(stall) as scope:
            await self._waiting.park()
        if scope.cancelled_caught and not self.paused:
            raise _stalled(stall)

    def taken_rest(self) -> bytes:
        """Return what has not gone, to be written anew."""
        rest, self.rest = self.rest, _NOTHING
        return bytes(rest)

    def unsent(self) -> bytes:
        """See Wire."""
        return bytes(self.rest)

    # ---- the end

    def close(self) -> None:
        """Close the connection: nothing of what came or is to go is held any more. Idempotent."""
        self.after(Event.CLOSE)
        self.stream.close()
        self.rest = _NOTHING

    def abort(self) -> None:
        """Close it with a reset, so that its peer takes nothing for whole. Idempotent."""
        self.after(Event.BREAK)
        self.stream.abort()
        self.rest = _NOTHING


def _stalled(stall: float) -> WriteStalled:
    return WriteStalled(f"the peer took nothing for {stall:g} s")
