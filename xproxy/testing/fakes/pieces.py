r"""``pieces``: many streams at once, bodies in pieces, a window for each (sharing FRAMES).

What HTTP/2 does, without HPACK, settings and a window for the connection. The client begins with
``\xf5PIECES\n``; then both sides send frames of ``kind (1) flags (1) stream id (4) length (4)`` and a payload:

=====  ========  ==========================================================================
kind   name      payload
=====  ========  ==========================================================================
1      head      msgpack of (service, method, fields) or (status, interim, fields)
2      data      a piece of the body, at most 16 KiB and at most the window
3      trailers  msgpack of the fields; ends the message
4      reset     status, 1 byte
5      credit    4 bytes: so many more body bytes may come
6, 7   ping       heartbeat and its answer; empty
8      goaway    empty
=====  ========  ==========================================================================

Flag 1 on head and data ends the message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from xproxy.codecs.api import NO, YES, Hint, Verdict
from xproxy.codecs.packing import MAX_STATE_BYTES
from xproxy.codecs.state_kinds import FLAG, choice, mapping, number, octets
from xproxy.codecs.state_schema import StateRecord, StateSchema, state_field
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import (
    Credit,
    Data,
    Frame,
    GoAway,
    Head,
    Reply,
    Reset,
    Trailers,
    Violation,
)
from xproxy.model.limits import KIB, Limits
from xproxy.model.message import RequestHead
from xproxy.model.status import Status
from xproxy.model.traits import Role, Sharing, Traits
from xproxy.testing.fakes.pieces_wire import (
    CREDIT,
    FRAME,
    PREFACE,
    Bad,
    Kind,
    check_frame,
    pack,
    pack_body,
    pack_reset,
    read_fields,
    read_head,
    status_of,
    unpack,
)

_MAX_WINDOW: Final = 2**31 - 1


@attrs.define(eq=False)
class Window:
    """One stream."""

    sendable: int
    """Body bytes that we may send."""
    receivable: int
    """Body bytes that the peer may send."""
    owed: int = 0
    """Body bytes consumed, for which no credit was given yet."""
    receiving: bool = True
    """The peer's message has not ended."""
    headed: bool = False
    """The peer's head is here."""
    sending: bool = True
    """Our message has not ended."""
    spoken: bool = False
    """Our head is out."""


@attrs.define(eq=False)
class PiecesCodec:
    """One connection."""

    role: Role
    limits: Limits
    window: int
    _streams: dict[int, Window] = attrs.field(factory=dict)
    _highest: int = 0
    """Highest id of a request on this connection."""
    _buffer: bytearray = attrs.field(factory=bytearray)
    _greeted: bool = False
    """The preface is out, or in."""
    _violated: bool = False

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        """See the codec contract."""
        if self._violated:
            return ()
        frames: list[Frame] = []
        try:
            if data is None:
                if self._buffer:
                    raise Bad("the input ends within a frame")
                return ()
            self._buffer += data
            self._read(frames)
        except Bad as exc:
            self._violated = True
            self._buffer.clear()
            self._streams.clear()
            frames.append(Violation(str(exc)))
        return frames

    def _read(self, frames: list[Frame]) -> None:
        buffer, position = self._buffer, 0
        if self.role is Role.SERVER and not self._greeted:
            if not PREFACE.startswith(buffer[: len(PREFACE)]):
                raise Bad("the preface is wrong")
            if len(buffer) < len(PREFACE):
                return
            self._greeted = True
            position = len(PREFACE)
        try:
            while len(buffer) - position >= FRAME.size:
                kind, flags, stream_id, size = FRAME.unpack_from(buffer, position)
                check_frame(kind, size, self.limits)
                end = position + FRAME.size + size
                if len(buffer) < end:
                    return
                payload = bytes(buffer[position + FRAME.size : end])
                position = end
                self._frame(Kind(kind), bool(flags & 1), stream_id, payload, frames)
        finally:
            del buffer[:position]

    def _frame(
        self, kind: Kind, end: bool, stream_id: int, payload: bytes, frames: list[Frame]
    ) -> None:
        match kind:
            case Kind.PING:
                frames.append(Reply(FRAME.pack(Kind.PONG, 0, 0, 0)))
            case Kind.PONG:
                pass
            case Kind.GOAWAY:
                frames.append(GoAway())
            case Kind.HEAD:
                self._head(stream_id, payload, end, frames)
            case Kind.DATA | Kind.TRAILERS | Kind.RESET | Kind.CREDIT:
                stream = self._streams.get(stream_id)
                if stream is not None:
                    self._of_stream(kind, end, stream_id, stream, payload, frames)
                elif not 0 < stream_id <= self._highest:
                    raise Bad(f"{kind.name} on stream {stream_id}, which was never opened")

    def _head(self, stream_id: int, payload: bytes, end: bool, frames: list[Frame]) -> None:
        message, interim = read_head(payload, self.role, self.limits)
        if self.role is Role.SERVER:
            if stream_id <= self._highest or stream_id >= 2**31:
                raise Bad(f"stream {stream_id} is not above {self._highest}")
            self._highest = stream_id
            if len(self._streams) >= self.limits.max_streams:
                refusal = pack_reset(stream_id, Status.RESOURCE_EXHAUSTED)
                frames.append(Reply(refusal))
                return
            self._streams[stream_id] = Window(self.window, self.window)
        stream = self._streams.get(stream_id)
        if stream is None:
            if not 0 < stream_id <= self._highest:
                raise Bad(f"an answer on stream {stream_id}, which was never opened")
            return
        if not stream.receiving or stream.headed:
            raise Bad(f"a second head on stream {stream_id}")
        stream.headed = not interim
        frames.append(Head(stream_id, message, b"", end and not interim, interim))
        if end and not interim:
            self._ended(stream_id, stream)

    def _of_stream(
        self,
        kind: Kind,
        end: bool,
        stream_id: int,
        stream: Window,
        payload: bytes,
        frames: list[Frame],
    ) -> None:
        if kind is Kind.CREDIT:
            if len(payload) != CREDIT.size:
                raise Bad("a credit is 4 bytes")
            stream.sendable += CREDIT.unpack(payload)[0]
            if stream.sendable > _MAX_WINDOW:
                raise Bad(f"a window above {_MAX_WINDOW}")
            frames.append(Credit(stream_id))
        elif kind is Kind.RESET:
            del self._streams[stream_id]
            frames.append(Reset(stream_id, status_of(payload[0]) if payload else Status.CANCELLED))
        elif not stream.receiving or not stream.headed:
            raise Bad(f"{kind.name} on stream {stream_id} outside of a message")
        elif kind is Kind.TRAILERS:
            fields = unpack(payload)
            if not isinstance(fields, list):
                raise Bad("trailers are not a list")
            frames.append(Trailers(stream_id, read_fields(fields, self.limits)))
            self._ended(stream_id, stream)
        else:
            stream.receivable -= len(payload)
            if stream.receivable < 0:
                raise Bad(f"the window of stream {stream_id} is overrun by {-stream.receivable}")
            if payload or end:
                frames.append(Data(stream_id, payload, end))
            if end:
                self._ended(stream_id, stream)

    def _ended(self, stream_id: int, stream: Window) -> None:
        stream.receiving = False
        self._forget(stream_id, stream)

    def _forget(self, stream_id: int, stream: Window) -> None:
        if not stream.receiving and not stream.sending:
            self._streams.pop(stream_id, None)

    def send(self, frame: Frame) -> bytes:
        """See the codec contract."""
        match frame:
            case Head():
                sent = self._send_head(frame)
            case Data(stream_id=id_, data=data, end=end):
                sent = self._send_body(id_, data, end)
            case Trailers(stream_id=id_, headers=headers):
                self._speaking(id_)
                sent = pack(Kind.TRAILERS, 0, id_, [list(p) for p in headers], self.limits)
                self._finish(id_)
            case Reset(stream_id=id_, status=status):
                if self._streams.pop(id_, None) is None:
                    raise LocalProtocolError(f"stream {id_} is not open")
                sent = pack_reset(id_, status)
            case _:
                raise LocalProtocolError(f"pieces cannot say {type(frame).__name__}")
        return self._greeting() + sent

    def _greeting(self) -> bytes:
        if self.role is Role.SERVER or self._greeted:
            return b""
        self._greeted = True
        return PREFACE

    def _send_head(self, frame: Head) -> bytes:
        id_, message = frame.stream_id, frame.message
        end = frame.end and not frame.interim
        if isinstance(message, RequestHead) is not (self.role is Role.CLIENT):
            raise LocalProtocolError(f"a {self.role.value} does not send that")
        fields = [list(pair) for pair in message.headers]
        content: list[object]
        if isinstance(message, RequestHead):
            if not self._highest < id_ < 2**31:
                raise LocalProtocolError(f"stream {id_} is not above {self._highest}")
            content = [message.service, message.method, fields]
        else:
            if self._open(id_).spoken:
                raise LocalProtocolError(f"a second head on stream {id_}")
            native = message.native_status
            code = message.status.value if native is None else native
            content = [code, frame.interim, fields]
        sent = pack(Kind.HEAD, int(end and not frame.data), id_, content, self.limits)
        if isinstance(message, RequestHead):
            self._highest = id_
            self._streams[id_] = Window(self.window, self.window)
        self._streams[id_].spoken = not frame.interim
        if frame.data and not frame.interim:
            return sent + self._send_body(id_, frame.data, end)
        if end:
            self._finish(id_)
        return sent

    def _send_body(self, id_: int, data: bytes, end: bool) -> bytes:
        stream = self._speaking(id_)
        if len(data) > stream.sendable:
            raise LocalProtocolError(
                f"{len(data)} bytes, the window lets {stream.sendable} through"
            )
        stream.sendable -= len(data)
        if end:
            self._finish(id_)
        return pack_body(id_, data, end)

    def _open(self, id_: int) -> Window:
        stream = self._streams.get(id_)
        if stream is None or not stream.sending:
            raise LocalProtocolError(f"stream {id_} is not open")
        return stream

    def _speaking(self, id_: int) -> Window:
        stream = self._open(id_)
        if not stream.spoken:
            raise LocalProtocolError(f"a body before the head on stream {id_}")
        return stream

    def _finish(self, id_: int) -> None:
        stream = self._streams[id_]
        stream.sending = False
        self._forget(id_, stream)

    def consumed(self, stream_id: int, count: int) -> bytes:
        """See SupportsFlow. Credit is given when half the window is owed."""
        stream = self._streams.get(stream_id)
        if stream is None or not stream.receiving:
            return b""
        stream.owed += count
        if stream.owed < self.window // 2:
            return b""
        owed, stream.owed = stream.owed, 0
        stream.receivable += owed
        return FRAME.pack(Kind.CREDIT, 0, stream_id, CREDIT.size) + CREDIT.pack(owed)

    def sendable(self, stream_id: int) -> int:
        """See SupportsFlow."""
        stream = self._streams.get(stream_id)
        return stream.sendable if stream is not None else 0

    def heartbeat(self) -> bytes:
        """See SupportsHeartbeat."""
        return self._greeting() + FRAME.pack(Kind.PING, 0, 0, 0)

    def goaway(self) -> bytes:
        """See SupportsGoAway."""
        return self._greeting() + FRAME.pack(Kind.GOAWAY, 0, 0, 0)

    def snapshot(self) -> bytes:
        """See SupportsSnapshot."""
        return _STATE.pack(
            _State(
                role=self.role,
                streams=self._streams,
                highest=self._highest,
                held=bytes(self._buffer),
                greeted=self._greeted,
                violated=self._violated,
            )
        )


@attrs.frozen(kw_only=True)
class _State:
    """All that a codec's future depends on, beside limits and options."""

    role: Role
    streams: dict[int, Window]
    highest: int
    held: bytes
    greeted: bool
    violated: bool


_ID: Final = number(0, 2**32 - 1)
_BYTES: Final = number(-(2**62), 2**62)
_WINDOW: Final = StateRecord(
    Window,
    state_field("sendable", _BYTES),
    state_field("receivable", _BYTES),
    state_field("owed", _BYTES, 0),
    state_field("receiving", FLAG, True),
    state_field("headed", FLAG, False),
    state_field("sending", FLAG, True),
    state_field("spoken", FLAG, False),
)
_STATE: Final = StateSchema(
    "pieces",
    1,
    StateRecord(
        _State,
        state_field("role", choice(Role)),
        state_field("streams", mapping(_ID, _WINDOW.kind, MAX_STATE_BYTES), {}),
        state_field("highest", _ID, 0),
        state_field("held", octets(MAX_STATE_BYTES), b""),
        state_field("greeted", FLAG, False),
        state_field("violated", FLAG, False),
    ),
)


@attrs.frozen(kw_only=True)
class PiecesPlugin:
    """The plugin. A test may want a smaller window."""

    name: str = "pieces"
    traits: Traits = Traits(
        sharing=Sharing.FRAMES, half_close=True, trailers=True, interim=True, rank=80
    )
    window: int = 64 * KIB
    """Body bytes that may be under way on one stream."""

    def detect(self, prefix: bytes, hint: Hint) -> Verdict:
        """Look for the preface."""
        if not PREFACE.startswith(prefix[: len(PREFACE)]):
            return NO
        return YES if len(prefix) >= len(PREFACE) else Verdict.more(len(prefix) + 1)

    def open(self, role: Role, limits: Limits) -> PiecesCodec:
        """Start a connection."""
        return PiecesCodec(role, limits, self.window)

    def status_of(self, native_status: int) -> Status:
        """See SupportsNativeStatus."""
        return status_of(native_status)

    def restore(self, state: bytes, role: Role, limits: Limits) -> PiecesCodec:
        """See RestoringPlugin."""
        found = _STATE.unpack(state)
        if found.role is not role or len(found.streams) > limits.max_streams:
            raise ValueError("a snapshot of the other side, or of more streams than there may be")
        return PiecesCodec(
            role,
            limits,
            self.window,
            found.streams,
            found.highest,
            bytearray(found.held),
            found.greeted,
            found.violated,
        )


PIECES: Final = PiecesPlugin()
