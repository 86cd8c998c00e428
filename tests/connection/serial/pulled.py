"""A serial wire whose codec gives what a test says."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

import attrs

from tests.connection.kit import memory_stream
from xproxy.connection.serial.wire import SerialWire
from xproxy.model.frames import Data, Frame, Head
from xproxy.model.message import RequestHead
from xproxy.testing.proxy import End

HEAD = Head(1, RequestHead(service="s", method="m"))
END = Data(1, b"", True)


@attrs.define(eq=False)
class Scripted:
    """A codec that gives the same frames whatever comes: those of the n-th read at the n-th read."""

    reads: list[Sequence[Frame]]
    at_end: Sequence[Frame] = ()

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        return self.at_end if data is None else self.reads.pop(0)

    def send(self, frame: Frame) -> bytes:
        raise NotImplementedError


@contextlib.asynccontextmanager
async def pulling(
    *reads: Sequence[Frame], at_end: Sequence[Frame] = ()
) -> AsyncIterator[tuple[SerialWire, End]]:
    async with memory_stream() as (stream, peer):
        yield SerialWire(stream, Scripted(list(reads), at_end)), peer
