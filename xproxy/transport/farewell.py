"""The orderly close: the one way to leave a peer that may still be sending, so that it can read what it was told.

A socket closed with bytes unread, or that gets some afterwards, is reset by the kernel, and a reset can destroy what
the peer has yet to read: the answer that says why.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final

import trio

from xproxy.transport.stream import ByteStream

LINGER_SECONDS: Final = 1.0
"""Silence after which a peer that was told of a failed handshake is left."""
LONGEST_FAREWELL: Final = 30.0
"""Seconds that a peer may go on sending before it is left all the same."""


async def linger(
    stream: ByteStream,
    silence: float = LINGER_SECONDS,
    longest: float = LONGEST_FAREWELL,
    heard: Callable[[int], None] | None = None,
) -> None:
    """Say that nothing more will come; then read and drop what comes (``hear_out``). Close the stream afterwards."""
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        # Its hanging up is an end like any other here: what it sent before must be read, too.
        stream.watch(None)
        stream.shutdown_write()
        await hear_out(stream, silence, longest, heard)


async def hear_out(
    stream: ByteStream,
    silence: float = LINGER_SECONDS,
    longest: float = LONGEST_FAREWELL,
    heard: Callable[[int], None] | None = None,
) -> None:
    """Read and drop what comes, so that the peer has time to read. Close or abort the stream afterwards.

    Ends with the peer's input, after ``silence`` seconds without a byte, and after ``longest`` seconds in all.
    ``heard`` is told how many bytes each read brought.
    """
    begin = trio.current_time()
    with (
        contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError),
        trio.CancelScope(deadline=begin + min(silence, longest)) as scope,
    ):
        stream.watch(None)
        while data := await stream.read():
            if heard is not None:
                heard(len(data))
            scope.deadline = min(trio.current_time() + silence, begin + longest)
