"""HTTP/1.1 with keep-alive, by the library h11: a GET at a time, each with a path and a nonce of its own."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import h11

from bench.takeover.speakers.rpcload import pattern
from bench.takeover.speakers.speaker import Answer, Broken, judged, nonce

AUTHORITY = "bench.test"
_OK = 200


@attrs.define(eq=False)
class Http1:
    """See the module. What answers is ``rpcload serve -proto http``."""

    connection: int
    size: int
    """Bytes of an answer."""
    serial: bool = attrs.field(default=True, init=False)
    ready: bool = attrs.field(default=True, init=False)
    _wire: h11.Connection = attrs.field(factory=lambda: h11.Connection(h11.CLIENT), init=False)
    _number: int = attrs.field(default=-1, init=False)
    _status: int = attrs.field(default=0, init=False)
    _body: bytearray = attrs.field(factory=bytearray, init=False)

    def begin(self) -> bytes:
        return b""

    def ask(self, number: int) -> bytes:
        wire = self._wire
        self._number = number
        target = f"/takeover/{self.connection}?request={number}"
        fields = [("Host", AUTHORITY), ("X-Nonce", nonce(self.connection, number).decode())]
        head = wire.send(h11.Request(method="GET", target=target, headers=fields))
        end = wire.send(h11.EndOfMessage())
        return (head or b"") + (end or b"")

    def receive(self, data: bytes) -> tuple[Sequence[Answer], bytes]:
        wire = self._wire
        wire.receive_data(data)
        try:
            while True:
                event = wire.next_event()
                if isinstance(event, h11.Response):
                    self._status = event.status_code
                elif isinstance(event, h11.Data):
                    self._body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    return (self._answer(),), b""
                elif event is h11.NEED_DATA:
                    return (), b""
                elif isinstance(event, h11.ConnectionClosed):
                    raise Broken("closed")
        except h11.RemoteProtocolError as exc:
            raise Broken(f"not HTTP/1.1: {exc}") from exc

    def _answer(self) -> Answer:
        number, body = self._number, bytes(self._body)
        self._body.clear()
        if self._wire.their_state is h11.MUST_CLOSE or self._wire.our_state is h11.MUST_CLOSE:
            return Answer(number, failed=f"status {self._status} with Connection: close")
        self._wire.start_next_cycle()
        if self._status != _OK:
            return Answer(number, failed=f"status {self._status}: {body[:80]!r}")
        return judged(number, nonce(self.connection, number) + pattern(self.size), body)
