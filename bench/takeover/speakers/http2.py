"""HTTP/2 by the library h2: GETs as they are due, each on a stream of its own."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from bench.takeover.speakers.http1 import AUTHORITY
from bench.takeover.speakers.rpcload import pattern
from bench.takeover.speakers.speaker import Answer, Broken, judged, nonce

_CONFIG = h2.config.H2Configuration(
    client_side=True,
    header_encoding=None,
    validate_inbound_headers=True,
    # Our own are right, and checking them takes as long as all else of a request.
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)


@attrs.define(eq=False)
class _Stream:
    number: int
    status: bytes = b""
    grpc_status: bytes | None = None
    body: bytearray = attrs.field(factory=bytearray)


@attrs.define(eq=False)
class Http2:
    """See the module. What answers is ``rpcload serve -proto http``, behind a proxy that converts."""

    connection: int
    size: int
    """Bytes of an answer."""
    serial: bool = attrs.field(default=False, init=False)
    ready: bool = attrs.field(default=True, init=False)
    _wire: h2.connection.H2Connection = attrs.field(
        factory=lambda: h2.connection.H2Connection(_CONFIG), init=False
    )
    _streams: dict[int, _Stream] = attrs.field(factory=dict, init=False)

    def begin(self) -> bytes:
        self._wire.initiate_connection()
        return self._wire.data_to_send()

    def ask(self, number: int) -> bytes:
        fields = [
            *((":method", "GET"), (":scheme", "http"), (":authority", AUTHORITY)),
            (":path", f"/takeover/{self.connection}?request={number}"),
            ("x-nonce", nonce(self.connection, number).decode()),
        ]
        return self._open(number, fields, b"")

    def _open(self, number: int, fields: Sequence[tuple[str, str]], body: bytes) -> bytes:
        wire = self._wire
        try:
            stream_id = wire.get_next_available_stream_id()
            wire.send_headers(stream_id, fields, end_stream=not body)
            if body:
                wire.send_data(stream_id, body, end_stream=True)
        except h2.exceptions.ProtocolError as exc:
            raise Broken(f"no further stream: {exc!r}") from exc
        self._streams[stream_id] = _Stream(number)
        return wire.data_to_send()

    def receive(self, data: bytes) -> tuple[Sequence[Answer], bytes]:
        wire, answers = self._wire, []
        try:
            events = wire.receive_data(data)
        except h2.exceptions.ProtocolError as exc:
            raise Broken(f"not HTTP/2: {exc!r}") from exc
        for event in events:
            if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                if (stream := self._streams.get(event.stream_id)) is not None:
                    fields = dict(event.headers)
                    stream.status = fields.get(b":status", stream.status)
                    stream.grpc_status = fields.get(b"grpc-status", stream.grpc_status)
            elif isinstance(event, h2.events.DataReceived):
                if event.flow_controlled_length:
                    wire.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if (stream := self._streams.get(event.stream_id)) is not None:
                    stream.body += event.data
            elif isinstance(event, h2.events.StreamEnded):
                if (stream := self._streams.pop(event.stream_id, None)) is not None:
                    answers.append(self._answer(stream))
            elif isinstance(event, h2.events.StreamReset):
                if (stream := self._streams.pop(event.stream_id, None)) is not None:
                    answers.append(Answer(stream.number, failed=f"reset, {event.error_code!r}"))
            elif isinstance(event, h2.events.ConnectionTerminated):
                raise Broken(f"GOAWAY, {event.error_code!r}")
        return answers, wire.data_to_send()

    def _answer(self, stream: _Stream) -> Answer:
        number, body = stream.number, bytes(stream.body)
        if stream.status != b"200":
            return Answer(number, failed=f"status {stream.status.decode()}: {body[:80]!r}")
        return judged(number, nonce(self.connection, number) + pattern(self.size), body)
