"""Ending a connection that failed, so that the peer can still read why."""

from __future__ import annotations

from typing import Final

import trio

from xproxy.transport.stream import ByteStream

LINGER_SECONDS: Final = 1.0
"""How long a peer has to take an alert and go."""
_MAX_BYTES: Final = 256 * 1024


async def linger(stream: ByteStream) -> None:
    """Say that nothing more will come, and read on for a little.

    A socket closed with bytes unread is reset, and a reset overtakes the alert.
    """
    stream.shutdown_write()
    read = 0
    with trio.move_on_after(LINGER_SECONDS):
        try:
            while read < _MAX_BYTES and (data := await stream.read()):
                read += len(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
