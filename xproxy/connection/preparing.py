"""Messages that are long work to write: done in slices, with turns for others in between."""

from __future__ import annotations

import time

from xproxy.codecs.api import SupportsPreparing
from xproxy.model.frames import Head
from xproxy.transport.stream import ByteStream
from xproxy.transport.turns import SLICE


async def prepared(codec: SupportsPreparing, frame: Head, stream: ByteStream) -> Head:
    """Return a frame that ``codec.send`` writes at once in place of ``frame``. A checkpoint only where it is long.

    ``stream`` is whose work it counts as. Raises what ``send`` raises.
    """
    work = codec.prepare(frame)
    if work is None:
        return frame
    begun = time.perf_counter()
    while True:
        try:
            next(work)
        except StopIteration as done:
            ready: Head = done.value
            return ready
        spent = time.perf_counter() - begun
        if spent >= SLICE:
            await stream.pause(spent)
            begun = time.perf_counter()
