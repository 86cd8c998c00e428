"""Socket to socket inside the kernel: ``splice(2)`` through a pipe, for bytes that nobody here looks at."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from typing import Final

import trio

from xproxy.transport.poller import PolledSocket

_PIPE_BYTES: Final = 1024 * 1024
"""What a pipe may hold: the kernel's default bound for users without privileges."""
_IN_A_ROW: Final = 256 * 1024
"""Bytes after which others have their turn …"""
_PIECE: Final = 16 * 1024
"""… of which each piece counts as so many at least: who sends little at a time mostly has to be waited for."""


class SourceBroken(trio.BrokenResourceError):
    """It is the source that broke, and not the sink."""


async def splice(
    source: PolledSocket,
    sink: PolledSocket,
    stall: float,
    moved: Callable[[int], None],
    kept: Callable[[bytes], None],
) -> None:
    """Move bytes until ``source`` has none left for good; its end is then still to be read.

    ``moved`` is told of every piece. Raises SourceBroken, and trio.BrokenResourceError for the sink, also if that
    takes nothing for ``stall`` seconds. When it is cancelled ``kept`` gets what was read and not written. Returns at
    once where the process has no file descriptor left for it.
    """
    try:
        out, into = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    flags = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
    count = 0
    try:
        try:
            size = fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        except PermissionError:  # the user's pipes are at their bound: the default size will do
            size = fcntl.fcntl(into, fcntl.F_GETPIPE_SZ)
        source.begin()
        in_a_row = 0
        while True:
            try:
                count = os.splice(source.fileno(), into, size, flags=flags)
            except BlockingIOError:
                source.pending = False
                source.settle()
                await _data(source)
                source.begin()
                in_a_row = 0
                continue
            except OSError as exc:
                raise SourceBroken(f"read: {exc.strerror}") from exc
            except trio.ClosedResourceError as exc:
                raise SourceBroken(str(exc)) from exc
            if count == 0:
                source.pending = True
                return
            in_a_row += max(count, _PIECE)
            while count:
                try:
                    sent = os.splice(out, sink.fileno(), count, flags=flags)
                except BlockingIOError:
                    source.settle()
                    await _room(sink, stall)
                    source.begin()
                    continue
                except OSError as exc:
                    sink.write_failed(exc)
                    raise
                count -= sent
                moved(sent)
            # Both ends may be ready for ever: others want to run too.
            if in_a_row >= _IN_A_ROW:
                in_a_row = 0
                await source.turn()
    except OSError as exc:
        raise trio.BrokenResourceError(f"splice: {exc.strerror}") from exc
    except trio.Cancelled:
        if count:
            kept(_read(out, count))
        raise
    finally:
        os.close(out)
        os.close(into)


def _read(pipe: int, count: int) -> bytes:
    pieces: list[bytes] = []
    while count:
        pieces.append(os.read(pipe, count))
        count -= len(pieces[-1])
    return b"".join(pieces)


async def _data(source: PolledSocket) -> None:
    try:
        await source.wait_readable()
    except trio.ClosedResourceError as exc:
        raise SourceBroken(str(exc)) from exc


async def _room(sink: PolledSocket, stall: float) -> None:
    with trio.move_on_after(stall) as scope:
        await sink.wait_writable()
    if scope.cancelled_caught:
        raise trio.BrokenResourceError(f"the peer took nothing for {stall:g} s")
