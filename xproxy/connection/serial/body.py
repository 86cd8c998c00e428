"""The body of a message that did not come whole on a serial connection: read by the task that forwards it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio
from trio.abc import ReceiveChannel

from xproxy.codecs.api import SupportsBypass, supports
from xproxy.connection.phase import INPUT_OVER
from xproxy.connection.serial.wire import SerialWire
from xproxy.model.errors import RequestBroken, StreamError
from xproxy.model.frames import Data, Frame, Reset, Trailers, Violation
from xproxy.stream.links import Note
from xproxy.transport.poller import PolledSocket
from xproxy.transport.splice import SourceBroken, Splice
from xproxy.transport.stream import Moved

BYPASS_AFTER: Final = 256 * 1024
"""Bytes of a body after which it is bulk, worth the two file descriptors of a pipe."""


class PulledBody(ReceiveChannel[bytes | Trailers]):
    """The body of the message whose head was just pulled. Abstract in what its breaking off means."""

    __slots__ = ("_first", "_splice", "_wire", "failure", "finished")

    def __init__(self, wire: SerialWire, first: bytes) -> None:
        self._wire = wire
        self._first = first
        self._splice: Splice | None = None
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
            return await self._wire.pull()
        except Moved:
            raise
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise self._break_off(str(exc)) from exc

    def _break_off(self, detail: str) -> StreamError:
        failure = self.broken(detail)
        self.failure = failure.again()
        return failure

    async def bypass(self, sink: SerialWire, stall: float, moved: Callable[[int], None]) -> bool:
        """Move what is left to ``sink`` inside the kernel, if both codecs have nothing to do with the bytes.

        Afterwards go on with ``receive``, in any case: where it was cancelled nothing is lost. Returns whether that
        is only for what it has brought back, as it was ``halted``: bypass again then. Raises what ``receive`` raises;
        trio.BrokenResourceError is the sink's.
        """
        wire = self._wire
        if (
            supports(wire.codec, SupportsBypass)
            and supports(sink.codec, SupportsBypass)
            and wire.codec.transparent
            and sink.codec.transparent
            and not (self.finished or self._first or wire.inbox or wire.phase in INPUT_OVER)
            and not sink.rest
            and isinstance(wire.stream, PolledSocket)
            and isinstance(sink.stream, PolledSocket)
        ):
            stats = wire.stats

            def counted(count: int) -> None:
                if stats is not None:
                    stats.downstream_rx_bytes_total += count
                moved(count)

            def kept(data: bytes) -> None:
                if stats is not None:
                    stats.downstream_rx_bytes_total += len(data)
                self._first = data

            self._splice = splice = Splice(stall, counted, kept)
            try:
                await splice.run(wire.stream, sink.stream)
            except SourceBroken as exc:
                raise self._break_off(str(exc)) from exc
            finally:
                self._splice = None
            return splice.over
        return False

    def halt(self) -> None:
        """Bring back what is on its way inside the kernel: it is to be received. For sockets that are suspended."""
        if self._splice is not None:
            self._splice.stop()

    def broken(self, detail: str) -> StreamError:
        """Return the error for a body that breaks off."""
        return RequestBroken(detail)

    @property
    def first(self) -> bytes:
        """What was taken of it and not passed on yet."""
        return self._first

    def note(self) -> tuple[object | None, Note | None]:
        """See SupportsNote: its driver writes down the rest."""
        return None, None

    def depart(self) -> None:
        """See SupportsNote: its connection goes, too."""

    async def aclose(self) -> None:
        """Do nothing: the connection belongs to its driver."""
