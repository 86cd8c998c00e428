"""Parts for tests of one piece of the connection layer alone."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import trio
from trio.testing import lockstep_stream_pair, memory_stream_pair

from xproxy.model.errors import StreamError
from xproxy.model.frames import Trailers
from xproxy.model.message import RequestHead, ResponseHead, Target
from xproxy.model.traits import Sharing, Traits
from xproxy.stream.body import Body, BytesBody
from xproxy.stream.exchange import Request
from xproxy.testing.proxy import CLIENT, PROXY, End, facts_of
from xproxy.transport.trio_stream import TrioStream

GET = RequestHead(service="h", method="GET", extra=Target(path="/a"))
POST = RequestHead(service="h", method="POST", extra=Target(path="/a"))


class Control:
    """A StreamControl that notes what it is told."""

    def __init__(self, nursery: trio.Nursery | None = None) -> None:
        self._nursery = nursery
        self.touched = 0
        self.held = 0
        self.interim: list[ResponseHead] = []
        self.deadline = float("inf")
        self.hold_interim = False
        """Take no interim response: whoever brings one waits for ever."""

    def limit(self, deadline: float) -> None:
        self.deadline = min(self.deadline, deadline)

    def touch(self) -> None:
        self.touched += 1

    def hold(self, count: int) -> None:
        self.held += count

    def interruption(self) -> StreamError | None:
        return None

    def start_soon(self, work: Callable[[], Awaitable[None]]) -> bool:
        if self._nursery is None:
            return False
        self._nursery.start_soon(work)
        return True

    async def send_interim(self, head: ResponseHead) -> None:
        self.interim.append(head)
        if self.hold_interim:
            await trio.sleep_forever()


def request_of(
    head: RequestHead = GET, body: Body | None = None, control: Control | None = None
) -> Request:
    return Request(
        head,
        body or BytesBody(),
        facts_of("test", Traits(sharing=Sharing.SERIAL)),
        control or Control(),
        0.0,
    )


class Fed(trio.abc.ReceiveChannel[bytes | Trailers]):
    """A body that a test feeds; it breaks off with ``failure``, if there is one."""

    def __init__(self, *pieces: bytes | Trailers, failure: Exception | None = None) -> None:
        self._feed, self._pieces = trio.open_memory_channel[bytes | Trailers](100)
        self._failure = failure
        for piece in pieces:
            self._feed.send_nowait(piece)

    def feed(self, piece: bytes | Trailers) -> None:
        self._feed.send_nowait(piece)

    def end(self, failure: Exception | None = None) -> None:
        self._failure = failure or self._failure
        self._feed.close()

    @property
    def left(self) -> int:
        """How many pieces nobody has taken."""
        return self._pieces.statistics().current_buffer_used

    def ended(self) -> Fed:
        """Return itself, with nothing more to come."""
        self._feed.close()
        return self

    async def receive(self) -> bytes | Trailers:
        try:
            return await self._pieces.receive()
        except trio.EndOfChannel:
            if self._failure is not None:
                raise self._failure from None
            raise

    async def aclose(self) -> None:
        await self._pieces.aclose()


class Deafening(TrioStream):
    """A stream whose peer takes no more bytes from some moment on, and may still say some."""

    deaf = False

    def write_now(self, data: bytes | memoryview) -> int:
        if self.deaf:
            raise trio.BrokenResourceError("write: Broken pipe")
        return super().write_now(data)


@contextlib.asynccontextmanager
async def memory_stream(*, bounded: bool = False) -> AsyncIterator[tuple[Deafening, End]]:
    """Give a running stream and the peer's end."""
    ours, theirs = lockstep_stream_pair() if bounded else memory_stream_pair()
    stream = Deafening(ours, CLIENT, PROXY)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.run)
        yield stream, End("peer", theirs)
        nursery.cancel_scope.cancel()
