"""The plain-Trio ByteStream: any ``trio.abc.Stream``, for memory streams in tests and systems without epoll.

It reads one piece ahead, so that a peer that hangs up is noticed while nobody reads; more stays in the stream.
"""

from __future__ import annotations

from typing import Final

import trio

from xproxy.model.address import Address

_READ: Final = 64 * 1024
_LAST_WORDS: Final = 60.0
"""Seconds that a peer has to take what was written before ``close``."""


class TrioStream:
    """Wraps a Trio stream. ``run`` must be running while it is used; it ends when the stream does."""

    def __init__(self, stream: trio.abc.Stream, peer: Address, local: Address) -> None:
        self.peer = peer
        self.local = local
        self.hung_up = False
        self.pending = False
        self.half_close = False
        self._stream = stream
        self._ahead: bytes | None = None
        self._broken: Exception | None = None
        self._closed = False
        self._watch: trio.CancelScope | None = None
        self._changed = trio.lowlevel.ParkingLot()
        self._outgoing = bytearray()
        self._finish = False
        self._scope = trio.CancelScope()

    async def run(self) -> None:
        """Move bytes both ways until the stream is closed here."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._pump_in)
                    nursery.start_soon(self._pump_out)
                # Both directions have ended, and whoever uses this has yet to read so.
                while not self._closed:
                    await self._changed.park()
        finally:
            self.close()
            with trio.CancelScope(shield=True), trio.move_on_after(1):
                await trio.aclose_forcefully(self._stream)

    async def _pump_in(self) -> None:
        while True:
            while self.pending:
                await self._changed.park()
            try:
                data = await self._stream.receive_some(_READ)
            except trio.BrokenResourceError as exc:
                self._broken = exc
                data = b""
            except trio.ClosedResourceError as exc:
                self._broken = exc
                data = b""
            self._ahead = bytes(data)
            self.pending = True
            if not data:
                self.hung_up = True
                if self._watch is not None and (not self.half_close or self._broken is not None):
                    self._watch.cancel()
            self._changed.unpark_all()
            if not data:
                return

    async def _pump_out(self) -> None:
        while True:
            if self._outgoing:
                data = bytes(self._outgoing)
                try:
                    await self._stream.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
                    self._broken = exc
                    if self._closed:
                        self._scope.cancel()
                    self._changed.unpark_all()
                    return
                del self._outgoing[: len(data)]
                self._changed.unpark_all()
            elif self._finish:
                if isinstance(self._stream, trio.abc.HalfCloseableStream):
                    await self._stream.send_eof()
                if self._closed:
                    self._scope.cancel()
                return
            else:
                await self._changed.park()

    async def read(self) -> bytes:
        """See ByteStream."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while (data := self.read_now()) is None:
            await self._changed.park()
        return data

    def read_now(self) -> bytes | None:
        """See ByteStream."""
        if not self.pending and not self._closed:
            return None
        if self._closed:
            raise trio.ClosedResourceError("stream was closed")
        data = self._ahead or b""
        if not data and self._broken is not None:
            raise trio.BrokenResourceError("read: the stream broke") from self._broken
        if data:  # the end stays, for whoever asks again
            self._ahead = None
            self.pending = False
            self._changed.unpark_all()
        return data

    def settle(self, more: float = 0.0) -> None:
        """See ByteStream: nothing is counted here."""

    async def turn(self) -> None:
        """See ByteStream."""
        await trio.lowlevel.checkpoint()

    async def pause(self, seconds: float) -> None:
        """See ByteStream."""
        await trio.lowlevel.checkpoint()

    def write_now(self, data: bytes | memoryview) -> int:
        """See ByteStream: takes up to ``_READ`` bytes beyond what is still on its way."""
        if self._closed:
            raise trio.ClosedResourceError("stream was closed")
        if self._broken is not None:
            raise trio.BrokenResourceError("write: the stream broke") from self._broken
        if self._finish:
            raise trio.BrokenResourceError("write: nothing may follow shutdown_write")
        room = max(0, _READ - len(self._outgoing))
        taken = data[:room]
        self._outgoing += taken
        if taken:
            self._changed.unpark_all()
        return len(taken)

    async def wait_writable(self) -> None:
        """See ByteStream."""
        while len(self._outgoing) >= _READ and not self._closed and self._broken is None:
            await self._changed.park()
        if self._closed:
            raise trio.ClosedResourceError("stream was closed")

    def watch(self, scope: trio.CancelScope | None) -> None:
        """See ByteStream."""
        self._watch = scope
        if scope is not None and self.hung_up and not self.half_close:
            scope.cancel()

    def shutdown_write(self) -> None:
        """See ByteStream."""
        self._finish = True
        self._changed.unpark_all()

    def close(self) -> None:
        """See ByteStream: what was written still goes out, as from a kernel's buffer."""
        if self._closed:
            return
        self._closed = True
        self.pending = True
        self._watch = None
        if not self._outgoing or self._broken is not None:
            self._scope.cancel()
        else:
            self._finish = True
            self._scope.deadline = trio.current_time() + _LAST_WORDS
        self._changed.unpark_all()

    def abort(self) -> None:
        """See ByteStream."""
        self._closed = True
        self.pending = True
        self._watch = None
        self._scope.cancel()
        self._changed.unpark_all()
