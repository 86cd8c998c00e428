"""Reading frames of a serial connection on demand: whoever wants a frame reads the socket for it.

No reader task and no channel: a body that did not come whole is read by the task that forwards it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import trio
from trio.abc import ReceiveChannel

from xproxy.codecs.api import Codec, SupportsBypass, supports
from xproxy.connection.service import DownstreamStats
from xproxy.model.errors import RequestBroken, StreamError
from xproxy.model.frames import Data, Frame, GoAway, Reply, Reset, Trailers, Violation
from xproxy.stream.held import COUNTED, FREE, Share
from xproxy.transport.poller import PolledSocket
from xproxy.transport.splice import SourceBroken, splice
from xproxy.transport.stream import ByteStream, write_all

BYPASS_AFTER: Final = 256 * 1024
"""Bytes of a body after which it is bulk, worth the two file descriptors of a pipe."""


class FramePuller:
    """A socket, its codec, and the frames that were decoded but not yet wanted. One task pulls at a time."""

    __slots__ = (
        "_half",
        "closing",
        "codec",
        "counted",
        "ended",
        "inbox",
        "share",
        "stats",
        "stream",
        "violation",
    )

    def __init__(
        self,
        stream: ByteStream,
        codec: Codec,
        stats: DownstreamStats | None = None,
        share: Share | None = None,
    ) -> None:
        self.stream = stream
        self.share = share
        """Whose bytes are held; None: nobody's for now, and they are not counted."""
        self.counted = 0
        """Bytes that are counted: of the last read, or of what has not come whole."""
        self._half = 0
        """The latter."""
        self.stats = stats
        """Where bytes are counted; None: nowhere. Whoever reads or writes the stream itself counts them as well."""
        self.codec = codec
        self.inbox: deque[Frame] = deque()
        self.ended = False
        """The peer's input has ended, and the codec knows it."""
        self.closing = False
        """The codec said GoAway: no further stream on this connection."""
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

    def let_go(self) -> None:
        """Nothing that was read is held any more. Idempotent."""
        if self.counted:
            self.held(0)

    def end(self) -> Sequence[Frame]:
        """The peer's input has ended: return what the codec makes of it."""
        self.ended = True
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
                    await write_all(self.stream, frame.data)  # type: ignore[union-attr]  # by kind
                    if self.stats is not None:
                        self.stats.downstream_tx_bytes_total += len(frame.data)  # type: ignore[union-attr]  # by kind
                elif kind is GoAway:
                    self.closing = True
                else:
                    if kind is Violation:
                        self.violation = frame  # type: ignore[assignment]  # by kind
                    return frame
            if self.ended:
                return None
            await self.fill()


class PulledBody(ReceiveChannel[bytes | Trailers]):
    """The body of the message whose head was just pulled. Abstract in what its breaking off means."""

    __slots__ = ("_first", "_side", "failure", "finished")

    def __init__(self, side: FramePuller, first: bytes) -> None:
        self._side = side
        self._first = first
        self.finished = False
        """Its end has been read."""
        self.failure: StreamError | None = None
        """Why it broke off, once that was read."""

    async def receive(self) -> bytes | Trailers:
        """See Body."""
        if self._first:
            first, self._first = self._first, b""
            return first
        while not self.finished:
            frame = await self._pull()
            if type(frame) is Data:
                self.finished = frame.end
                if frame.data:
                    return frame.data
            elif type(frame) is Trailers:
                self.finished = True
                return frame
            elif type(frame) is Violation:
                raise self._break_off(frame.detail)
            elif frame is None or type(frame) is Reset:
                raise self._break_off("the connection ended in the middle of the body")
        raise trio.EndOfChannel

    async def _pull(self) -> Frame | None:
        try:
            return await self._side.pull()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise self._break_off(str(exc)) from exc

    def _break_off(self, detail: str) -> StreamError:
        failure = self.broken(detail)
        self.failure = failure.again()
        return failure

    async def bypass(self, sink: FramePuller, stall: float, moved: Callable[[int], None]) -> None:
        """Move what is left to ``sink`` inside the kernel, if both codecs have nothing to do with the bytes.

        Afterwards go on with ``receive``, in any case: where it was cancelled nothing is lost. Raises what
        ``receive`` raises; trio.BrokenResourceError is the sink's.
        """
        side = self._side
        if (
            supports(side.codec, SupportsBypass)
            and supports(sink.codec, SupportsBypass)
            and side.codec.transparent
            and sink.codec.transparent
            and not (self.finished or self._first or side.inbox or side.ended)
            and isinstance(side.stream, PolledSocket)
            and isinstance(sink.stream, PolledSocket)
        ):
            stats = side.stats

            def counted(count: int) -> None:
                if stats is not None:
                    stats.downstream_rx_bytes_total += count
                moved(count)

            def kept(data: bytes) -> None:
                if stats is not None:
                    stats.downstream_rx_bytes_total += len(data)
                self._first = data

            try:
                await splice(side.stream, sink.stream, stall, counted, kept)
            except SourceBroken as exc:
                raise self._break_off(str(exc)) from exc

    def broken(self, detail: str) -> StreamError:
        """Return the error for a body that breaks off."""
        return RequestBroken(detail)

    async def aclose(self) -> None:
        """Do nothing: the connection belongs to its driver."""
