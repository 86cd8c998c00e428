"""WebSocket over HTTP/1.1 by the library websockets: messages that must come back as they are."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import attrs
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from bench.takeover.speakers.http1 import AUTHORITY
from bench.takeover.speakers.speaker import Answer, Broken, content, judged

_URI = parse_uri(f"ws://{AUTHORITY}/socket")
_SIZES = (32, 125, 126, 1000)
"""Bytes of messages, in turn: short lengths and long ones (RFC 6455 §5.2)."""


@attrs.define(eq=False)
class WebSocket:
    """See the module."""

    connection: int
    serial: bool = attrs.field(default=False, init=False)
    _wire: ClientProtocol = attrs.field(factory=lambda: ClientProtocol(_URI), init=False)
    _asked: deque[int] = attrs.field(factory=deque, init=False)

    @property
    def ready(self) -> bool:
        return self._wire.state is State.OPEN

    def begin(self) -> bytes:
        self._wire.send_request(self._wire.connect())
        return b"".join(self._wire.data_to_send())

    def ask(self, number: int) -> bytes:
        self._asked.append(number)
        body = content(self.connection, number, _SIZES[number % len(_SIZES)])
        if number % 2:
            self._wire.send_text(body)
        else:
            self._wire.send_binary(body)
        return b"".join(self._wire.data_to_send())

    def receive(self, data: bytes) -> tuple[Sequence[Answer], bytes]:
        wire, answers = self._wire, []
        wire.receive_data(data)
        for event in wire.events_received():
            if isinstance(event, Response):
                if wire.handshake_exc is not None:
                    raise Broken(f"not a WebSocket: {wire.handshake_exc!r}")
            elif isinstance(event, Frame):
                if event.opcode not in (Opcode.TEXT, Opcode.BINARY):
                    raise Broken(f"{event.opcode.name} came")
                if not self._asked:
                    raise Broken("a message that nobody asked for")
                answers.append(self._answer(event))
        if wire.parser_exc is not None:
            raise Broken(f"not WebSocket: {wire.parser_exc!r}")
        return answers, b"".join(wire.data_to_send())

    def _answer(self, frame: Frame) -> Answer:
        number = self._asked.popleft()
        if frame.opcode is not (Opcode.TEXT if number % 2 else Opcode.BINARY):
            return Answer(number, mismatch="text for bytes, or bytes for text")
        due = content(self.connection, number, _SIZES[number % len(_SIZES)])
        return judged(number, due, bytes(frame.data))
