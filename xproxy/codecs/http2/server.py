"""The server's side: requests in, responses out.

Rules of this file:

* A request that is refused before it was a message (malformed, above a limit, too late) is answered by the codec
  alone, and nobody else learns of it.
* A call (gRPC) hears of every failure in its own terms: an outcome among the headers, or among trailers once the head
  is out. Only what was no message yet, and has no answer, is reset.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

import attrs

from xproxy.codecs.grpc.call import NATIVE, WEB
from xproxy.codecs.grpc.reply import reply
from xproxy.codecs.grpc.status import STATUS
from xproxy.codecs.http2.codec import Http2Codec
from xproxy.codecs.http2.faults import Malformed
from xproxy.codecs.http2.limits import NO_HEAD_BOUND, Http2Limits
from xproxy.codecs.http2.memory import Memory
from xproxy.codecs.http2.outgoing import Outgoing, of_response, text_type
from xproxy.codecs.http2.reader import NOTHING
from xproxy.codecs.http2.state import Drain, Stage, State
from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.stream import Stream
from xproxy.codecs.http2.tunnel import granted_on_wire, ungranted
from xproxy.codecs.http2.wire import data_frames, rst_stream
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Data, Frame, Head, Reply
from xproxy.model.limits import Limits
from xproxy.model.message import Local, Reason, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role

_FINAL: Final = Drain.FINAL
_OPEN: Final = State.OPEN
_HALF_CLOSED_REMOTE: Final = State.HALF_CLOSED_REMOTE
_TOO_MANY: Final = ResponseHead(
    status=Status.UNAVAILABLE,
    native_status=0,  # the stream was reset: there was no code
    extra=Local(detail="stream refused: too many at a time, or the connection is about to end"),
)


def _malformed(detail: str) -> ResponseHead:
    return ResponseHead(status=Status.INVALID_ARGUMENT, native_status=0, extra=Local(detail=detail))


class ServerCodec(Http2Codec):
    """HTTP/2 towards a downstream."""

    __slots__ = ("_date", "_most_streams", "_requests")
    role: ClassVar[Role] = Role.SERVER

    def __init__(self, limits: Limits, own: Http2Limits, memory: Memory) -> None:
        super().__init__(limits, own, memory, Stage.MAGIC)
        self._date: Callable[[], str] | None = None
        self._most_streams = own.streams_within(limits)
        self._requests = memory.requests

    def use_clock(self, date: Callable[[], str]) -> None:
        """See SupportsDate."""
        self._date = date

    def _dated(self, message: ResponseHead) -> ResponseHead:
        if self._date is None or "date" in message.headers:
            return message
        return attrs.evolve(message, headers=message.headers.add("date", self._date()))

    # -- bytes in -----------------------------------------------------------------------------------------------

    def on_headers(self, stream_id: int, block: bytes, end: bool, frames: list[Frame]) -> None:
        """See HeadTaker."""
        streams = self._streams
        if stream_id <= streams.highest or not stream_id & 1:
            stream = streams.open.get(stream_id)
            if stream is None or not stream.state.receiving:
                self._stray_headers(stream_id, block, frames)
            else:
                self._trailers(stream_id, stream, block, end, frames)
            return
        headers = self._header_reader
        blocks = self._requests
        read = blocks.steady.get((headers.table, block)) or headers.read(blocks, block)
        streams.reach(stream_id)
        guard = self._guard
        guard.on_stream()
        if self._goodbye.drain is _FINAL or len(streams.open) >= self._most_streams:
            self._refuse(stream_id, ErrorCode.REFUSED_STREAM, end, frames, _TOO_MANY)
            guard.on_refused(warned=self._control.acknowledged)
            return
        parsed = read.parsed
        if parsed is None:
            assert read.malformed is not None
            self._refuse_malformed(stream_id, read.malformed, end, frames)
            return
        if end and parsed.declared > 0:
            told = _malformed("no body, where content-length tells of one")
            self._refuse(stream_id, ErrorCode.PROTOCOL_ERROR, end, frames, told)
            guard.on_reset(guard.now)
            return
        stream = Stream(_HALF_CLOSED_REMOTE if end else _OPEN)
        stream.opened = guard.now
        stream.headed = True
        stream.muted = parsed.muted
        stream.connect = parsed.tunnel
        stream.upgrade = parsed.upgrade
        stream.expected = parsed.declared
        if parsed.dialect:
            stream.call = True
            stream.web_call = parsed.dialect != NATIVE
        streams.open[stream_id] = stream
        if not stream.connect:
            frames.append(Head(stream_id, parsed.message, b"", end))
            return
        # What goes into a tunnel is no body: it never joins the head, not even if all of it is here.
        frames += (Head(stream_id, parsed.message), NOTHING)
        if end:
            frames.append(Data(stream_id, b"", True))

    def _refuse(
        self, stream_id: int, code: ErrorCode, end: bool, frames: list[Frame], told: ResponseHead
    ) -> None:
        # ``told``: what it comes to for those who count; the client reads a code.
        if not end:
            self._streams.past.abandon(stream_id)
        frames.append(Reply(rst_stream(stream_id, code), told))

    def _refuse_malformed(
        self, stream_id: int, malformed: Malformed, end: bool, frames: list[Frame]
    ) -> None:
        if not malformed.answer:
            told = _malformed(malformed.detail)
            self._refuse(stream_id, ErrorCode.PROTOCOL_ERROR, end, frames, told)
            self._guard.on_reset(self._guard.now)
            return
        # RFC 9113 §8.1.1 allows an answer: a client that sent too much should learn what.
        head = ResponseHead(
            status=Status.INVALID_ARGUMENT,
            native_status=malformed.answer,
            extra=Local(detail=malformed.detail, reason=Reason.HEAD_TOO_LARGE),
        )
        answer = reply(head, malformed.dialect) if malformed.dialect else head
        outgoing = of_response(self._dated(answer))
        raw = self._sender.head(stream_id, outgoing, True)
        if not end:
            self._streams.past.abandon(stream_id)
            raw += rst_stream(stream_id, ErrorCode.NO_ERROR)
        frames.append(Reply(raw, head))
        if malformed.answer == 431:
            self._guard.on_too_long()
        else:
            self._guard.on_reset(self._guard.now)

    # -- bytes out ----------------------------------------------------------------------------------------------

    def _send_head(self, frame: Head) -> bytes:
        message = frame.message
        if type(message) is not ResponseHead:
            raise LocalProtocolError("a server sends responses only")
        stream_id = frame.stream_id
        sender = self._sender
        stream = self._streams.open.get(stream_id)
        if stream is None:
            return sender.late(stream_id)
        if stream.spoken:
            raise LocalProtocolError(f"a second head on stream {stream_id}")
        if stream.call and message.native_status is None and frame.end:
            return self._reply_to_call(stream_id, stream, message)
        if stream.upgrade and not frame.interim:
            message = granted_on_wire(message)
            if ungranted(message):
                frame = Head(stream_id, message, b"", frame.end)
                stream.muted = stream.muted or not frame.end
        memory = self._memory
        made_here = message.native_status is None or type(message.extra) is Local
        tunnel = stream.connect and message.status is Status.OK
        if made_here and self._date is not None and not (frame.interim or tunnel):
            outgoing = of_response(self._dated(message))  # the only one of its kind
        else:
            outgoing = memory.outgoing.get(message) or memory.keep(message, of_response(message))
        code = outgoing.code
        if sender.head_bytes != NO_HEAD_BOUND and outgoing.size > sender.head_bytes:
            if frame.interim:
                return b""  # nobody must have it
            sender.check_head(outgoing)
        if frame.interim or code < 200:
            return self._interim(frame, outgoing)
        if stream.connect and code < 300 and outgoing.declared >= 0:
            outgoing = outgoing.without_length()
        bodyless = stream.muted or outgoing.bodyless
        if not frame.end:
            return self._begin(frame, stream, outgoing, bodyless=bodyless)

        windows = self._windows
        data = b"" if bodyless else frame.data
        size = len(data)
        if size:
            windows.check(stream, size)
        if not bodyless:
            if outgoing.local_body and not size:
                if len(outgoing.local_body) <= windows.room(stream):
                    data = outgoing.local_body
                    size = len(data)
                    outgoing = text_type(outgoing)
            elif outgoing.declared != size and outgoing.declared >= 0:
                outgoing = outgoing.with_length(size)
        if not size:
            return sender.last_head(stream_id, stream, outgoing)
        raw = sender.head(stream_id, outgoing, False)
        stream.spoken = True
        stream.outbound -= size
        windows.outbound -= size
        self._guard.data_out += 1
        self._streams.sent(stream_id, stream)
        return raw + data_frames(stream_id, data, sender.frame_bytes, end=True)

    def _reply_to_call(self, stream_id: int, stream: Stream, message: ResponseHead) -> bytes:
        """Send a reply made here to a caller: its text, if somebody gave it one, is in its head."""
        outgoing = of_response(self._dated(reply(message, WEB if stream.web_call else NATIVE)))
        return self._sender.last_head(stream_id, stream, outgoing)

    def _send_reset(self, stream_id: int, status: Status) -> bytes:
        sender = self._sender
        stream = self._streams.open.get(stream_id)
        if (
            stream is None
            or not stream.call
            or stream.web_call
            or not (stream.spoken and stream.state.sending)
            or stream.owing > 0
            or status is Status.OK
        ):
            return sender.reset(stream_id, status)
        # An outcome says more than an error code. What there is of a message cannot be taken for a whole one.
        outgoing = Outgoing([(STATUS, str(status.value))], -1)
        raw = sender.last_head(stream_id, stream, outgoing)
        return raw + sender.reset(stream_id, Status.OK) if stream.state.receiving else raw

    def _begin(self, frame: Head, stream: Stream, outgoing: Outgoing, *, bodyless: bool) -> bytes:
        """Send a head whose body follows."""
        stream_id = frame.stream_id
        data = b"" if bodyless else frame.data
        self._windows.check(stream, len(data))
        if 0 <= outgoing.declared < len(data) and not bodyless:
            raise LocalProtocolError("body is longer than the length sent")
        raw = self._sender.head(stream_id, outgoing, False)
        stream.spoken = True
        stream.muted = bodyless
        stream.owing = -1 if bodyless else outgoing.declared
        return raw + self._sender.body(stream_id, stream, data, False) if data else raw

    def _interim(self, frame: Head, outgoing: Outgoing) -> bytes:
        code = outgoing.code
        if not frame.interim or code >= 200 or frame.data or frame.end:
            raise LocalProtocolError(
                f"{code} in a frame that is not its kind (interim is {frame.interim})"
            )
        return self._sender.head(frame.stream_id, outgoing, False)
