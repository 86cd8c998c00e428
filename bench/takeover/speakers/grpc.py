"""gRPC over the library h2: unary calls, or one call that lasts, each message of which is a request.

What answers (``python -m bench.takeover.upstream grpc``) sends each message back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import attrs
import h2.config
import h2.connection
import h2.events
import h2.exceptions

from bench.takeover.speakers.http1 import AUTHORITY
from bench.takeover.speakers.http2 import Http2, _Stream
from bench.takeover.speakers.speaker import Answer, Broken, content, judged

PREFIX_BYTES = 5
SIZES = (64, 256, 1024, 100, 17)
"""Bytes of messages, in turn."""


def message(connection: int, number: int) -> bytes:
    """Return the message of a request with the prefix gRPC gives it: not compressed, and its length."""
    body = content(connection, number, SIZES[number % len(SIZES)])
    return b"\0" + len(body).to_bytes(4) + body


def head(method: str) -> list[tuple[str, str]]:
    """Return the fields of a call."""
    return [
        *((":method", "POST"), (":scheme", "http"), (":authority", AUTHORITY)),
        *((":path", f"/echo.Echo/{method}"), ("te", "trailers")),
        ("content-type", "application/grpc"),
    ]


@attrs.define(eq=False)
class GrpcUnary(Http2):
    """A call for each request, its status in the trailers checked."""

    size: int = attrs.field(default=0, init=False)

    def ask(self, number: int) -> bytes:
        fields = [*head("Say"), ("x-request-id", f"{self.connection}-{number}")]
        return self._open(number, fields, message(self.connection, number))

    def _answer(self, stream: _Stream) -> Answer:
        if stream.status != b"200" or stream.grpc_status != b"0":
            said = f"status {stream.status!r}, grpc-status {stream.grpc_status!r}"
            return Answer(stream.number, failed=said)
        return judged(stream.number, message(self.connection, stream.number), bytes(stream.body))


@attrs.define(eq=False)
class _Lasting:
    """A call under way."""

    asked: deque[int] = attrs.field(factory=deque)
    got: bytearray = attrs.field(factory=bytearray)
    ending: bool = False
    """We have sent all there is; its status is due."""
    status: bytes = b""


@attrs.define(eq=False)
class GrpcStream:
    """One call a connection, both ways, that lasts until ``turn``: then another one follows it."""

    connection: int
    serial: bool = attrs.field(default=False, init=False)
    ready: bool = attrs.field(default=True, init=False)
    _wire: h2.connection.H2Connection = attrs.field(
        factory=lambda: h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding=None)
        ),
        init=False,
    )
    _stream_id: int = attrs.field(default=0, init=False)
    """Of the call that requests are asked on."""
    _calls: dict[int, _Lasting] = attrs.field(factory=dict, init=False)
    _unsent: deque[tuple[int, bytes]] = attrs.field(factory=deque, init=False)
    """Messages that the peer's window has no room for, each with its stream; b"": the end of it."""

    def begin(self) -> bytes:
        self._wire.initiate_connection()
        self._open()
        return self._wire.data_to_send()

    def _open(self) -> None:
        self._stream_id = self._wire.get_next_available_stream_id()
        self._wire.send_headers(self._stream_id, head("Chat"))
        self._calls[self._stream_id] = _Lasting()

    def ask(self, number: int) -> bytes:
        self._calls[self._stream_id].asked.append(number)
        self._unsent.append((self._stream_id, message(self.connection, number)))
        return self._send()

    def turn(self) -> bytes:
        """End the call, and begin another."""
        self._calls[self._stream_id].ending = True
        self._unsent.append((self._stream_id, b""))
        try:
            self._open()
        except h2.exceptions.ProtocolError as exc:
            raise Broken(f"no further call: {exc!r}") from exc
        return self._send()

    def _send(self) -> bytes:
        wire = self._wire
        try:
            while self._unsent:
                stream_id, data = self._unsent[0]
                if not data:
                    wire.end_stream(stream_id)
                elif wire.local_flow_control_window(stream_id) < len(data):
                    break
                else:
                    wire.send_data(stream_id, data)
                self._unsent.popleft()
        except h2.exceptions.ProtocolError as exc:
            raise Broken(f"the call is over: {exc!r}") from exc
        return wire.data_to_send()

    def receive(self, data: bytes) -> tuple[Sequence[Answer], bytes]:
        wire, answers = self._wire, list[Answer]()
        try:
            events = wire.receive_data(data)
        except h2.exceptions.ProtocolError as exc:
            raise Broken(f"not HTTP/2: {exc!r}") from exc
        for event in events:
            if isinstance(event, h2.events.DataReceived):
                if event.flow_controlled_length:
                    wire.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                answers += self._take(self._calls[event.stream_id], event.data)
            elif isinstance(event, h2.events.ResponseReceived):
                if dict(event.headers)[b":status"] != b"200":
                    raise Broken(f"the call was answered with {event.headers!r}")
            elif isinstance(event, h2.events.TrailersReceived):
                self._calls[event.stream_id].status = dict(event.headers).get(b"grpc-status", b"")
            elif isinstance(event, h2.events.StreamEnded):
                self._end(self._calls.pop(event.stream_id))
            elif isinstance(event, h2.events.StreamReset):
                raise Broken(f"the call was reset, {event.error_code!r}")
            elif isinstance(event, h2.events.ConnectionTerminated):
                raise Broken(f"GOAWAY, {event.error_code!r}")
        return answers, self._send()

    def _end(self, call: _Lasting) -> None:
        if not call.ending or call.asked or call.got or call.status != b"0":
            owed = f"{len(call.asked)} answers owed, {len(call.got)} bytes left over"
            raise Broken(f"the call was ended with status {call.status!r}, {owed}")

    def _take(self, call: _Lasting, data: bytes) -> Sequence[Answer]:
        got, answers = call.got, []
        got += data
        while len(got) >= PREFIX_BYTES:
            end = PREFIX_BYTES + int.from_bytes(got[1:PREFIX_BYTES])
            if len(got) < end:
                break
            if not call.asked:
                raise Broken("a message that nobody asked for")
            number = call.asked.popleft()
            answers.append(judged(number, message(self.connection, number), bytes(got[:end])))
            del got[:end]
        return answers
