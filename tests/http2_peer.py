"""The `h2` package on a Trio stream, as a client or as a server: an HTTP/2 peer that is not ours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import attrs
import h2.config
import h2.connection
import h2.events
import h2.settings
import trio
from hyperframe.frame import GoAwayFrame

from tests.live import PATIENCE

Pairs = Iterable[tuple[str, str]]
E = TypeVar("E", bound=h2.events.Event)


@attrs.define
class Message:
    """What came on one stream."""

    fields: list[tuple[str, str]] = attrs.field(factory=list)
    interim: list[list[tuple[str, str]]] = attrs.field(factory=list)
    body: bytes = b""
    trailers: list[tuple[str, str]] = attrs.field(factory=list)
    ended: bool = False
    reset: int | None = None
    """The error code."""

    def __getitem__(self, name: str) -> str:
        return dict(self.fields)[name]


class Http2Peer:
    """One connection. ``messages`` has what came; nothing is answered but what the protocol asks for."""

    def __init__(
        self,
        stream: trio.SocketStream,
        *,
        client: bool,
        settings: dict[h2.settings.SettingCodes, int] | None = None,
        reads: bool = True,
    ) -> None:
        self.stream = stream
        config = h2.config.H2Configuration(client_side=client, header_encoding="latin-1")
        self.h2 = h2.connection.H2Connection(config)
        self.messages: dict[int, Message] = {}
        self.gone: int | None = None
        """The last stream of the peer's GOAWAY."""
        self.gone_code = 0
        self._sending = trio.StrictFIFOLock()
        self.over = False
        """The peer closed the connection."""
        self.reads = reads
        """Whether it gives credit for what it gets."""
        if settings is not None:
            self.h2.local_settings = h2.settings.Settings(client=client, initial_values=settings)
        self.h2.initiate_connection()

    async def flush(self) -> None:
        """Send what is to be sent."""
        async with self._sending:
            data = self.h2.data_to_send()
            if data:
                await self.stream.send_all(data)

    async def goodbye(self, last_stream_id: int) -> None:
        """Say GOAWAY, and go on: h2 itself would take nothing more, not even what it still has to answer."""
        async with self._sending:
            await self.stream.send_all(GoAwayFrame(0, last_stream_id).serialize())

    async def more(self) -> None:
        """Take what comes next."""
        await self.flush()
        try:
            data = await self.stream.receive_some(1 << 16)
        except trio.BrokenResourceError:
            data = b""
        if not data:
            self.over = True
            return
        for event in self.h2.receive_data(data):
            self._note(event)
        await self.flush()

    async def until(self, holds: object, what: str = "it") -> None:
        """Take what comes until ``holds()``; fail if it does not come true."""
        assert callable(holds)
        with trio.move_on_after(PATIENCE):
            while not holds():
                assert not self.over, f"closed before {what}"
                await self.more()
            return
        raise AssertionError(f"{what} did not come; there is {self.messages}")

    async def ask(
        self,
        path: str = "/",
        method: str = "GET",
        body: bytes = b"",
        extra: Pairs = (),
        *,
        ends: bool = True,
    ) -> int:
        """Send a request, or the beginning of one; return its stream."""
        stream_id = self.h2.get_next_available_stream_id()
        fields = [
            (":method", method),
            (":scheme", "http"),
            (":path", path),
            (":authority", "a.example"),
            *extra,
        ]
        self.h2.send_headers(stream_id, fields, end_stream=ends and not body)
        while body:
            await self.until(lambda: self.h2.local_flow_control_window(stream_id) > 0, "a window")
            size = min(16_384, self.h2.local_flow_control_window(stream_id))
            piece, body = body[:size], body[size:]
            self.h2.send_data(stream_id, piece, end_stream=ends and not body)
        await self.flush()
        return stream_id

    async def answer(
        self, stream_id: int, body: bytes = b"ok", extra: Pairs = (), code: int = 200
    ) -> None:
        """Send a whole response."""
        self.h2.send_headers(stream_id, [(":status", str(code)), *extra], end_stream=not body)
        if body:
            self.h2.send_data(stream_id, body, end_stream=True)
        await self.flush()

    async def whole(self, stream_id: int) -> Message:
        """Wait for a message to end; return it."""
        await self.until(
            lambda: stream_id in self.messages and self.messages[stream_id].ended,
            f"the end of stream {stream_id}",
        )
        return self.messages[stream_id]

    @property
    def asked(self) -> list[int]:
        """Streams whose requests have ended, in order."""
        return [i for i, message in self.messages.items() if message.ended]

    def _note(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            self.gone = event.last_stream_id
            self.gone_code = int(event.error_code or 0)
            return
        stream_id = getattr(event, "stream_id", None)
        if not stream_id:
            return
        message = self.messages.setdefault(stream_id, Message())
        if isinstance(event, h2.events.RequestReceived | h2.events.ResponseReceived):
            message.fields = _pairs(event.headers)
        elif isinstance(event, h2.events.InformationalResponseReceived):
            message.interim.append(_pairs(event.headers))
        elif isinstance(event, h2.events.DataReceived):
            message.body += event.data
            if self.reads and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            message.trailers = _pairs(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            message.ended = True
        elif isinstance(event, h2.events.StreamReset):
            message.reset = int(event.error_code)


def _pairs(headers: Sequence[tuple[object, object]]) -> list[tuple[str, str]]:
    return [(str(name), str(value)) for name, value in headers]
