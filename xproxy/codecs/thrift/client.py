"""The client's side: calls out, answers in.

An answer that nobody waits for ends the connection: from there on, no answer could be trusted to be its call's. One
to a oneway call is known by its id, and dropped.
"""

from __future__ import annotations

from xproxy.codecs.message_wire import Malformed
from xproxy.codecs.slices import Work, at_once
from xproxy.codecs.thrift import wire
from xproxy.codecs.thrift.codec import ThriftCodec
from xproxy.codecs.thrift.dialect import FRAMED_STRICT, SAME, Upstreams
from xproxy.codecs.thrift.encoding import EXCEPTION, MASK, REPLY
from xproxy.codecs.thrift.interface import Interface
from xproxy.codecs.thrift.message import ThriftExtra
from xproxy.codecs.thrift.snapshot import CLIENT, ClientState
from xproxy.codecs.thrift.state import Calls
from xproxy.codecs.thrift.wire import Packed
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Frame, Head, Reset
from xproxy.model.limits import Limits
from xproxy.model.message import RequestHead


class ClientCodec(ThriftCodec):
    """Thrift towards an upstream. Calls in the dialect they came in, unless the cluster has one of its own."""

    __slots__ = ("_calls", "_interface", "_upstreams")

    def __init__(
        self, limits: Limits, upstreams: Upstreams = SAME, interface: Interface | None = None
    ) -> None:
        super().__init__(limits)
        self._calls = Calls()
        self._upstreams = upstreams
        self._interface = interface

    def _read(self, buffer: bytes, frames: list[Frame]) -> int:
        calls, limits, decode = self._calls, self._limits, wire.decode
        asked, answered = calls.asked, calls.answered
        at, size = 0, len(buffer)
        while at < size:
            message = decode(buffer, at, size, limits)
            if type(message) is not tuple:
                if type(message) is Packed:
                    at += len(message.raw)
                    message = at_once(message.unpacking())
                elif not isinstance(message, int):
                    message = self._unframed(message, buffer, at, size)  # type: ignore[arg-type]  # no tuple
                if isinstance(message, int):
                    self._need = message
                    break
            kind, seqid, _, head, data, length = message
            at += length
            if kind != REPLY and kind != EXCEPTION:
                raise Malformed("a call from a server")
            if answered(seqid, head.extra.dialect):
                frames.append(Head(seqid, head, data, True))
        if at < size and not asked and not calls.oneways:
            raise Malformed("bytes that answer no call")
        return at

    def _send(self, frame: Head) -> bytes:
        head = frame.message
        if type(head) is not RequestHead:
            raise LocalProtocolError("a Thrift client was asked nothing")
        stream_id = frame.stream_id
        asked = self._calls.asked
        if not 0 <= stream_id <= MASK:
            raise LocalProtocolError(f"stream id {stream_id} is above 32 bits")
        if stream_id in asked:
            raise LocalProtocolError(f"call {stream_id} waits for its answer already")
        extra = head.extra
        dialect = self._upstreams[extra.dialect if type(extra) is ThriftExtra else FRAMED_STRICT]
        limit = self._limits.max_message_bytes
        written = wire.request(dialect, stream_id, head, frame.data, limit, self._interface)
        if head.oneway:
            self._calls.told(stream_id)
        else:
            asked[stream_id] = dialect
        return written

    def prepare(self, frame: Head) -> Work[Head] | None:
        """See SupportsPreparing."""
        extra = frame.message.extra
        dialect = self._upstreams[extra.dialect if type(extra) is ThriftExtra else FRAMED_STRICT]
        return wire.prepared_request(
            dialect, frame, self._limits.max_message_bytes, self._interface
        )

    def next_stream_id(self) -> int:
        """See SupportsStreamIds."""
        return self._calls.next_id()

    def _reset(self, frame: Reset) -> bytes:
        return b""  # Thrift cannot take a call back; its answer will be read, and found to be its

    # ── moving ──

    def snapshot(self) -> bytes:
        """Return the state for the plugin's ``restore``."""
        calls = self._calls
        return CLIENT.pack(
            ClientState(
                bytes(self._held), self._over, calls.asked, list(calls.oneways), calls.last_id
            )
        )

    def load(self, state: ClientState) -> None:
        """Continue as the codec of that state."""
        self._held = bytearray(state.held)
        self._over = state.over
        self._calls.asked = state.asked
        self._calls.oneways = dict.fromkeys(state.oneways)
        self._calls.last_id = state.last_id
