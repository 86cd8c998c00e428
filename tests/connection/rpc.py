"""What tests of shared connections have in common: messages of ``lines``, frames of ``pieces``, handlers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs
import trio
from trio.testing import wait_all_tasks_blocked

from tests.connection.kit import memory_stream, request_of
from tests.live import PATIENCE
from xproxy.codecs.api import Codec, CodecPlugin
from xproxy.config.schema import TimeoutsConfig
from xproxy.connection.service import FilterChain
from xproxy.connection.shared.multiplexed import Multiplexed
from xproxy.model.errors import StreamError
from xproxy.model.frames import Credit, Data, Frame, Head, Trailers
from xproxy.model.limits import DEFAULT_LIMITS, MIB, Duration, Limits
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Request, Response
from xproxy.testing.fakes import LINES, PIECES, PiecesPlugin
from xproxy.testing.fakes.lines import LinesCodec, LinesPlugin
from xproxy.testing.proxy import End, ProxyPair, facts_of
from xproxy.transport.timers import Timers
from xproxy.transport.trio_stream import TrioStream

OK = ResponseHead(status=Status.OK, native_status=0)
ASK = RequestHead(service="s", method="m")


def timeouts(**seconds: float) -> TimeoutsConfig:
    return TimeoutsConfig(**{name: Duration(value) for name, value in seconds.items()})


def question(id_: int, body: bytes = b"") -> bytes:
    return b"~q %d s m %d -\n%b" % (id_, len(body), body)


def oneway(id_: int, body: bytes = b"") -> bytes:
    return b"~o %d s m %d -\n%b" % (id_, len(body), body)


def reply(id_: int, body: bytes = b"", status: int = 0) -> bytes:
    return b"~s %d %d %d -\n%b" % (id_, status, len(body), body)


async def echo(request: Request) -> Response:
    assert isinstance(request.body, BytesBody)
    return Response(OK, BytesBody(request.body.data))


class Gate:
    """A handler that holds each stream until it is let go by the body of its request."""

    def __init__(self) -> None:
        self.entered: list[bytes] = []
        self.cancelled: list[bytes] = []
        self._gates: dict[bytes, trio.Event] = {}

    def let_go(self, *names: bytes) -> None:
        for name in names:
            self._gates.setdefault(name, trio.Event()).set()

    async def __call__(self, request: Request) -> Response:
        assert isinstance(request.body, BytesBody)
        name = request.body.data
        self.entered.append(name)
        try:
            await self._gates.setdefault(name, trio.Event()).wait()
        except trio.Cancelled:
            self.cancelled.append(name)
            raise
        return Response(OK, BytesBody(name))


async def frames_of(end: End, codec: Codec, count: int) -> list[Head]:
    frames: list[Head] = []
    while len(frames) < count:
        data = await end.raw.receive_some()
        assert data, f"the end came after {len(frames)} of {count} messages"
        for frame in codec.receive(bytes(data)):
            assert isinstance(frame, Head), frame
            frames.append(frame)
    return frames


@attrs.define(eq=False)
class Upstream:
    connection: Multiplexed
    peer: End
    ended: trio.Event


@asynccontextmanager
async def upstream(
    plugin: CodecPlugin = LINES,
    *,
    bounded: bool = False,
    heartbeat: tuple[float, float, int] | None = None,
    chain: FilterChain | None = None,
    max_outbox_bytes: int = MIB,
) -> AsyncIterator[Upstream]:
    async with memory_stream(bounded=bounded) as (stream, peer):
        stream.half_close = plugin.traits.half_close
        connection = Multiplexed(
            stream,
            plugin.open(Role.CLIENT, DEFAULT_LIMITS),
            Role.CLIENT,
            facts_of(plugin.name, plugin.traits),
            chain,
            Timers(),
            max_outbox_bytes=max_outbox_bytes,
        )
        made = Upstream(connection, peer, trio.Event())

        async def run() -> None:
            await connection.run(heartbeat=heartbeat)
            made.ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            yield made
            nursery.cancel_scope.cancel()
        assert connection.streams == 0


class Said(LinesCodec):
    """Reads frames for which ``lines`` has no words."""

    def __init__(self, role: Role, limits: Limits, frames: list[Frame]) -> None:
        super().__init__(role, limits)
        self.frames = frames

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        if not self.frames:
            return super().receive(data)
        said, self.frames[:] = self.frames[:], []
        return said


@attrs.frozen(kw_only=True)
class Saying(LinesPlugin):
    """``lines`` whose peer can say any frame: see ``say``."""

    frames: list[Frame] = attrs.field(factory=list, eq=False)

    def open(self, role: Role, limits: Limits) -> LinesCodec:
        return Said(role, limits, self.frames)

    async def say(self, peer: End, *frames: Frame) -> None:
        """Let the next read bring frames."""
        self.frames.extend(frames)
        await peer.send(b"!")
        await wait_all_tasks_blocked()
        assert not self.frames


async def outcome(connection: Multiplexed, request: Request | None = None) -> object:
    try:
        response = await connection.call(request or request_of(ASK))
    except StreamError as error:
        return error
    assert isinstance(response.body, BytesBody)
    return response.body.data


@attrs.define(eq=False)
class Talker:
    """Speaks ``pieces`` over one end, by frames."""

    end: End
    codec: Codec
    frames: list[Frame] = attrs.field(factory=list)

    async def send(self, *frames: Frame) -> None:
        await self.end.send(b"".join(self.codec.send(frame) for frame in frames))

    async def next(self) -> Frame:
        while not self.frames:
            with trio.fail_after(PATIENCE):
                data = await self.end.raw.receive_some()
            assert data, "the end came instead of a frame"
            self.frames += self.codec.receive(bytes(data))
        return self.frames.pop(0)

    async def body(self, stream_id: int, *, consume: bool = True) -> bytes:
        """Return the body up to its end, giving credit for it."""
        got = b""
        while True:
            frame = await self.next()
            if isinstance(frame, Trailers):
                return got
            if not isinstance(frame, Data) or frame.stream_id != stream_id:
                continue
            got += frame.data
            if consume:
                credit = self.codec.consumed(stream_id, len(frame.data))  # type: ignore[attr-defined]
                if credit:
                    await self.end.send(credit)
            if frame.end:
                return got

    async def quiet_but_for_credit(self) -> None:
        """Take what has come, which may be nothing but credit."""
        await wait_all_tasks_blocked()
        with trio.move_on_after(0.05):
            self.frames += self.codec.receive(bytes(await self.end.raw.receive_some()))
        assert all(isinstance(frame, Credit) for frame in self.frames), self.frames
        self.frames.clear()

    async def quiet(self) -> None:
        await wait_all_tasks_blocked()
        with trio.move_on_after(0.05):
            self.frames += self.codec.receive(bytes(await self.end.raw.receive_some()))
        assert self.frames == []


def talk(end: End, role: Role, plugin: PiecesPlugin = PIECES) -> Talker:
    return Talker(end, plugin.open(role, DEFAULT_LIMITS))


def client_stream(pair: ProxyPair, nursery: trio.Nursery) -> TrioStream:
    stream = TrioStream(pair.client.raw, pair.stream.local, pair.stream.peer)
    stream.half_close = True
    nursery.start_soon(stream.run)
    return stream
