"""Socket to socket inside the kernel: ``splice(2)`` through a pipe, for bytes that nobody here looks at."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from typing import Final

import trio

from xproxy.transport.poller import PolledSocket
from xproxy.transport.stream import Moved

_PIPE_BYTES: Final = 1024 * 1024
"""What a pipe may hold: the kernel's default bound for users without privileges."""
_IN_A_ROW: Final = 256 * 1024
"""Bytes after which others have their turn …"""
_PIECE: Final = 16 * 1024
"""… of which each piece counts as so many at least: who sends little at a time mostly has to be waited for."""


_FLAGS: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class SourceBroken(trio.BrokenResourceError):
    """It is the source that broke, and not the sink."""


class Splice:
    """Bytes on their way from one socket to another. Made for one ``run``."""

    __slots__ = ("_count", "_into", "_kept", "_moved", "_out", "_stall", "over")

    def __init__(
        self, stall: float, moved: Callable[[int], None], kept: Callable[[bytes], None]
    ) -> None:
        """``moved`` is told of every piece; ``kept`` gets what was read and will not be written here."""
        self._stall = stall
        self._moved = moved
        self._kept = kept
        self._out = self._into = -1
        self._count = 0  # bytes in the pipe
        self.over = False
        """It was stopped."""

    def stop(self) -> None:
        """End it as soon as it goes on; what is in the pipe is ``kept`` at once. For sockets that are suspended."""
        self.over = True
        if self._count:
            count, self._count = self._count, 0
            self._kept(_read(self._out, count))

    async def run(self, source: PolledSocket, sink: PolledSocket) -> None:
        """Move bytes until ``source`` has none left for good, whose end is then still to be read, or until ``stop``.

        Raises SourceBroken, and trio.BrokenResourceError for the sink, also if that takes nothing for ``stall``
        seconds. Returns at once where the process has no file descriptor left for it.
        """
        try:
            self._out, self._into = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return
        try:
            await self._run(source, sink)
        except OSError as exc:
            raise trio.BrokenResourceError(f"splice: {exc.strerror}") from exc
        except trio.Cancelled:
            self.stop()
            raise
        finally:
            os.close(self._out)
            os.close(self._into)

    async def _run(self, source: PolledSocket, sink: PolledSocket) -> None:
        out, into, moved = self._out, self._into, self._moved
        try:
            size = fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        except PermissionError:  # the user's pipes are at their bound: the default size will do
            size = fcntl.fcntl(into, fcntl.F_GETPIPE_SZ)
        source.begin()
        in_a_row = 0
        while not self.over:
            try:
                count = os.splice(source.fileno(), into, size, flags=_FLAGS)
            except BlockingIOError:
                source.pending = False
                source.settle()
                await _data(source)
                source.begin()
                in_a_row = 0
                continue
            except OSError as exc:
                raise SourceBroken(f"read: {exc.strerror}") from exc
            except trio.ClosedResourceError:
                await _resumed(source)
                continue
            if count == 0:
                source.pending = True
                return
            in_a_row += max(count, _PIECE)
            self._count = count
            while self._count:
                try:
                    sent = os.splice(out, sink.fileno(), self._count, flags=_FLAGS)
                except BlockingIOError:
                    source.settle()
                    await _room(sink, self._stall)
                    source.begin()
                    continue
                except OSError as exc:
                    sink.write_failed(exc)
                    raise
                self._count -= sent
                moved(sent)
            # Both ends may be ready for ever: others want to run too.
            if in_a_row >= _IN_A_ROW:
                in_a_row = 0
                await source.turn()


def _read(pipe: int, count: int) -> bytes:
    pieces: list[bytes] = []
    while count:
        pieces.append(os.read(pipe, count))
        count -= len(pieces[-1])
    return b"".join(pieces)


async def _data(source: PolledSocket) -> None:
    try:
        await source.wait_readable()
    except Moved:
        raise
    except trio.ClosedResourceError as exc:
        raise SourceBroken(str(exc)) from exc


async def _resumed(source: PolledSocket) -> None:
    try:
        await source.resumed()
    except Moved:
        raise
    except trio.ClosedResourceError as exc:
        raise SourceBroken(str(exc)) from exc


async def _room(sink: PolledSocket, stall: float) -> None:
    with trio.move_on_after(stall) as scope:
        await sink.wait_writable()
    if scope.cancelled_caught and not sink.suspended:
        raise trio.BrokenResourceError(f"the peer took nothing for {stall:g} s")
