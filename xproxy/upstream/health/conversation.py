"""A health check's talk with an endpoint, one question after the other, in whatever protocol has a codec."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, final

import attrs

from xproxy.codecs.api import (
    CodecPlugin,
    SupportsFlow,
    SupportsHeartbeat,
    SupportsStreamIds,
    supports,
)
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Data, Frame, GoAway, Head, Reply, Reset, Trailers, Violation
from xproxy.model.limits import KIB, Limits
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.traits import Role, Sharing
from xproxy.transport.stream import ByteStream, write_all
from xproxy.upstream.health.api import Answer, CheckFailed

MOST_ANSWER_BYTES: Final = 64 * KIB
"""Of an answer's body that are kept; the rest is read, and dropped."""
_LARGEST_ID: Final = 2**31 - 1


@attrs.define
class _Coming:
    """An answer on its way."""

    stream_id: int
    head: ResponseHead | None = None
    data: bytearray = attrs.field(factory=bytearray)
    trailers: Trailers | None = None
    over: bool = False

    def keep(self, data: bytes) -> None:
        self.data += data[: MOST_ANSWER_BYTES - len(self.data)]


@final
class Conversation:
    """See Conversing."""

    def __init__(self, stream: ByteStream, plugin: CodecPlugin, limits: Limits) -> None:
        self.stream = stream
        self.plugin = plugin
        self.over = False
        """Nothing more can be asked here."""
        self._codec = plugin.open(Role.CLIENT, limits)
        self._begun = False
        self._last_id = 0

    @property
    def usable(self) -> bool:
        """Whether more can be asked, as far as anybody knows."""
        return not (self.over or self.stream.hung_up)

    async def ask(self, head: RequestHead, data: bytes = b"") -> Answer:
        """See Conversing."""
        coming = _Coming(self._next_id())
        try:
            await self._begin()
            # Whole: a check's question is small, and fits in every first window.
            await write_all(
                self.stream, self._codec.send(Head(coming.stream_id, head, data, end=True))
            )
        except LocalProtocolError as exc:
            raise CheckFailed(f"{self.plugin.name} cannot say it: {exc}") from exc
        while not coming.over:
            await self._take(await self._read(), coming)
        assert coming.head is not None
        return Answer(coming.head, bytes(coming.data), coming.trailers)

    async def beat(self) -> None:
        """See Conversing."""
        codec = self._codec
        question = codec.heartbeat() if supports(codec, SupportsHeartbeat) else b""
        if not question:
            raise CheckFailed(f"{self.plugin.name} has no heartbeats")
        await self._begin()
        await write_all(self.stream, question)
        await self._take(await self._read(), None)

    def _next_id(self) -> int:
        codec = self._codec
        if supports(codec, SupportsStreamIds):
            return codec.next_stream_id()
        traits = self.plugin.traits
        if (traits.upstream_sharing or traits.sharing) is Sharing.SERIAL:
            return 1
        self._last_id = self._last_id % _LARGEST_ID + 1
        return self._last_id

    async def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            await self._take(self._codec.receive(b""), None)

    async def _read(self) -> Iterable[Frame]:
        data = await self.stream.read()
        frames = self._codec.receive(data or None)
        if not data:
            self.over = True
            return [*frames, Violation("the endpoint has closed the connection")]
        return frames

    async def _take(self, frames: Iterable[Frame], coming: _Coming | None) -> None:
        owed = bytearray()
        for frame in frames:
            match frame:
                case Reply(data):
                    owed += data
                case GoAway():
                    self.over = True
                case Violation(detail) if coming is None or not coming.over:
                    raise CheckFailed(detail)
                case Reset(_, status, _, detail) if coming is not None:
                    raise CheckFailed(f"no answer: {detail or status.label}")
                case Head(interim=False) | Data() | Trailers() if coming is not None:
                    owed += self._piece(frame, coming)
        if owed:
            await write_all(self.stream, bytes(owed))

    def _piece(self, frame: Head | Data | Trailers, coming: _Coming) -> bytes:
        if frame.stream_id != coming.stream_id:
            return b""
        match frame:
            case Head(message=ResponseHead() as head):
                coming.head = head
                coming.over = frame.end
                coming.keep(frame.data)
            case Data():
                coming.over = frame.end
                coming.keep(frame.data)
            case Trailers():
                coming.trailers = frame
                coming.over = True
        codec = self._codec
        if isinstance(frame, Trailers) or not frame.data or not supports(codec, SupportsFlow):
            return b""
        return codec.consumed(frame.stream_id, len(frame.data))
