"""The client's side: requests out, responses in.

Rules of this file:

* Above the number of streams that the server allows, requests wait here and go out as streams end (RFC 9113 §5.1.2).
  They have no window while they wait, so bodies wait where they are.
* A server's pushes are not wanted, and it was told so before it could.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from xproxy.codecs.grpc.timeout import FIELD as TIMEOUT
from xproxy.codecs.grpc.timeout import format_timeout
from xproxy.codecs.http2.codec import Http2Codec
from xproxy.codecs.http2.faults import ConnectionFault, StreamFault
from xproxy.codecs.http2.limits import (
    ANY_HEAD_BYTES,
    MAX_STREAM_ID,
    NO_HEAD_BOUND,
    Http2Limits,
)
from xproxy.codecs.http2.memory import Memory
from xproxy.codecs.http2.outgoing import (
    Outgoing,
    added_fields,
    list_size,
    of_request,
    of_trailers,
)
from xproxy.codecs.http2.reader import NOTHING
from xproxy.codecs.http2.snapshot import Snapshot
from xproxy.codecs.http2.state import Stage, State
from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.stream import Stream, Waiting
from xproxy.codecs.http2.table import Field
from xproxy.codecs.http2.tunnel import granted
from xproxy.codecs.http2.wire import data_frames, header_frames, ping
from xproxy.codecs.other_protocol import other_protocol
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Credit, Data, Frame, GoAway, Head, Reply
from xproxy.model.headers import Headers
from xproxy.model.limits import Limits
from xproxy.model.message import Local, Reason, RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role

_SETTINGS: Final = Stage.SETTINGS
_ENDED: Final = Stage.ENDED
_OPEN: Final = State.OPEN
_HALF_CLOSED_LOCAL: Final = State.HALF_CLOSED_LOCAL
_LAST_IDS: Final = 2**16
"""So many ids before the last one, no new requests are taken: the connection has had its time."""
_UNOFFERED: Final = "the server does not take CONNECT for a protocol (RFC 8441)"
_NOT_OFFERED: Final = ResponseHead(status=Status.UNIMPLEMENTED, extra=Local(detail=_UNOFFERED))
_TOO_LONG: Final = ResponseHead(
    status=Status.INVALID_ARGUMENT,
    extra=Local(
        detail="the server takes no header list of this size", reason=Reason.HEAD_TOO_LARGE
    ),
)
_OPEN_PING: Final = b"xproxy:o"
"""Its answer is the occasion to say that requests which waited may send their bodies now."""


class ClientCodec(Http2Codec):
    """HTTP/2 towards an upstream."""

    __slots__ = ("_responses", "_retiring", "_reviewed", "_unheard", "_waiting")
    role: ClassVar[Role] = Role.CLIENT

    def __init__(self, limits: Limits, own: Http2Limits, memory: Memory) -> None:
        super().__init__(limits, own, memory, Stage.SETTINGS)
        self._responses = memory.responses
        self._waiting: dict[int, Waiting] = {}
        self._reviewed = NO_HEAD_BOUND
        """The longest header list that the server takes, as those that wait were last held against it."""
        self._unheard = False
        """Requests that waited were opened, and who has their bodies does not know it yet."""
        self._retiring = False
        """Ids run out: no more requests after those under way."""

    @property
    def settled(self) -> bool:
        """See SupportsConcurrency."""
        return self._reader.stage is not _SETTINGS

    @property
    def room(self) -> int:
        """See SupportsConcurrency."""
        if self._reader.stage is _SETTINGS:
            return 0
        most = min(self._sender.most_streams, self._limits.max_streams)
        return most - len(self._streams.open)

    @property
    def saturated(self) -> bool:
        """See SupportsConcurrency."""
        open_now = len(self._streams.open)
        return (
            open_now >= self._sender.most_streams
            or open_now >= self._limits.max_streams
            or self._reader.stage is _SETTINGS
        )

    @property
    def blocked(self) -> bool:
        """See SupportsConcurrency."""
        return self._windows.outbound <= 0

    def premature(self, head: RequestHead) -> bool:
        """See SupportsConcurrency: CONNECT for a protocol, and a header list that some servers take for an attack."""
        if self._reader.stage is not _SETTINGS:
            return False
        outgoing = of_request(head)
        return outgoing.protocol or outgoing.size > ANY_HEAD_BYTES

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def next_stream_id(self) -> int:
        """Return the id for the next request."""
        return self._streams.highest + 2

    # -- bytes in -----------------------------------------------------------------------------------------------

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        """Take bytes from the server. None is the end of its input."""
        if data and self._reader.stage is _SETTINGS:
            # Before its settings a server has said nothing: here it shows that it is none of HTTP/2.
            buffer = self._reader.buffer
            start = data[:16] if buffer is None else bytes(buffer[:16]) + data[:16]
            other = other_protocol(start, "HTTP/2")
            if other:
                return (self._violation(ConnectionFault(ErrorCode.PROTOCOL_ERROR, other)),)
        return super().receive(data)

    def _catch_up(self, frames: list[Frame]) -> None:
        stage = self._reader.stage
        if stage is _ENDED:
            return
        self._due = False
        if self._unheard:
            self._unheard = False
            frames.append(Credit())
        if stage is _SETTINGS:
            self._due = True
            return
        if self._waiting:
            self._review_waiting(frames)
            if raw := self._open_waiting():
                frames.append(Reply(raw))
            self._due = bool(self._waiting) or self._unheard
        if self._retiring:
            self._retiring = False
            frames.append(GoAway())

    def on_headers(self, stream_id: int, block: bytes, end: bool, frames: list[Frame]) -> None:
        """See HeadTaker."""
        stream = self._streams.open.get(stream_id)
        if stream is None or not stream.state.receiving:
            self._stray_headers(stream_id, block, frames)
            return
        if stream.headed:
            self._trailers(stream_id, stream, block, end, frames)
            return
        headers = self._header_reader
        blocks = self._responses
        read = blocks.steady.get((headers.table, block)) or headers.read(blocks, block)
        parsed = read.parsed
        if parsed is None:
            assert read.malformed is not None
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, read.malformed.detail)
        code = parsed.code
        if code < 200:
            if end:
                raise StreamFault(ErrorCode.PROTOCOL_ERROR, "an interim response that ends")
            frames.append(Head(stream_id, parsed.message, interim=True))
            return
        stream.headed = True
        if stream.unanswered or code == 204 or code == 304:
            stream.expected = 0
        elif not (stream.connect and code < 300):
            stream.expected = parsed.declared
            if end and parsed.declared > 0:
                raise StreamFault(ErrorCode.PROTOCOL_ERROR, "no body where the head declares one")
        message = parsed.to_call if stream.call else parsed.message
        if stream.connect and code >= 300:
            stream.connect = stream.upgrade = False  # an ordinary answer, which may have trailers
        elif stream.connect:
            # What comes out of a tunnel is no body: it never joins the head, not even if all of it is here.
            frames += (Head(stream_id, granted(message) if stream.upgrade else message), NOTHING)
            if end:
                frames.append(Data(stream_id, b"", True))
                self._streams.received(stream_id, stream)
            return
        frames.append(Head(stream_id, message, b"", end))
        if end:
            self._streams.received(stream_id, stream)

    # -- bytes out ----------------------------------------------------------------------------------------------

    def _send_head(self, frame: Head) -> bytes:
        message = frame.message
        stream_id = frame.stream_id
        streams = self._streams
        if type(message) is not RequestHead or frame.interim:
            raise LocalProtocolError("a client sends requests only")
        if not streams.highest < stream_id <= MAX_STREAM_ID or not stream_id & 1:
            raise LocalProtocolError(
                f"stream {stream_id} is not an odd number above {streams.highest}"
            )
        stage = self._reader.stage
        if self._goodbye.peer_last >= 0 or stage is _ENDED:
            raise LocalProtocolError("a request on a connection that takes no more of them")
        sender = self._sender
        added: list[Field] | None = None
        memory = self._memory
        base = message.base
        if base is not None:
            added = added_fields(message.added)
        if added is not None and base is not None:
            outgoing = memory.outgoing.get(base) or memory.keep(base, of_request(base))
        else:
            outgoing = memory.outgoing.get(message) or memory.keep(message, of_request(message))
        untold = stage is _SETTINGS and (outgoing.protocol or outgoing.size > ANY_HEAD_BYTES)
        sender.check_head(outgoing, added or ())
        if outgoing.protocol and not (sender.connect or untold):
            raise LocalProtocolError(_UNOFFERED)
        if outgoing.call and base is not None and message.deadline not in (None, base.deadline):
            assert message.deadline is not None
            outgoing = outgoing.without_timeout()
            added = [*(added or ()), (TIMEOUT, format_timeout(message.deadline))]
        data, size, end = frame.data, len(frame.data), frame.end
        if outgoing.connect and (size or (end and outgoing.protocol)):
            raise LocalProtocolError("CONNECT with a body, or for a protocol and without a tunnel")
        declared = outgoing.declared
        if declared >= 0 and declared != size and (end or declared < size):
            if not end:
                raise LocalProtocolError("body is longer than the length sent")
            outgoing = outgoing.with_length(size)
            declared = size
        if untold or self._waiting or len(streams.open) >= sender.most_streams:
            if size:
                raise LocalProtocolError("no stream is free for a body that comes with its head")
            self._wait(stream_id, outgoing, added, end)
            return b""
        stream = Stream(_HALF_CLOSED_LOCAL if end else _OPEN)
        if size:
            self._windows.check(stream, size)
        block = self._header_writer.write(outgoing)
        if added:
            block += self._header_writer.write_added(added)
        stream.call = outgoing.call
        stream.upgrade = outgoing.protocol
        stream.connect = outgoing.connect
        stream.unanswered = outgoing.head_method
        self._reach(stream_id)
        self._open(stream_id, stream)
        raw = header_frames(stream_id, block, sender.frame_bytes, end=end and not size)
        if size:
            stream.outbound -= size
            self._windows.outbound -= size
            self._guard.data_out += 1
            raw += data_frames(stream_id, data, sender.frame_bytes, end=end)
        stream.owing = -1 if end or declared < 0 else declared - size
        return raw

    def _open(self, stream_id: int, stream: Stream) -> None:
        """Begin a stream: its request is on its way."""
        self._guard.on_stream()
        stream.spoken = True
        self._streams.open[stream_id] = stream

    def _reach(self, stream_id: int) -> None:
        """Note the id of a request."""
        if stream_id > MAX_STREAM_ID - _LAST_IDS >= self._streams.highest:
            self._due = self._retiring = True
        self._streams.reach(stream_id)

    def _send_data(self, stream_id: int, data: bytes, end: bool) -> bytes:
        if not self._waiting:
            return self._sender.data(stream_id, data, end)
        waiting = self._waiting.get(stream_id)
        if waiting is None:
            return self._sender.data(stream_id, data, end) + self._open_waiting()
        if data or waiting.end:
            raise LocalProtocolError(f"a body on stream {stream_id}, which is not open yet")
        if end and waiting.declared > 0:
            raise LocalProtocolError("body is shorter than the length sent")
        waiting.end = end
        return b""

    def _send_trailers(self, stream_id: int, headers: Headers) -> bytes:
        if not self._waiting:
            return self._sender.trailers(stream_id, headers)
        waiting = self._waiting.get(stream_id)
        if waiting is None:
            return self._sender.trailers(stream_id, headers) + self._open_waiting()
        if waiting.end:
            raise LocalProtocolError(f"trailers after the end, on {stream_id}")
        waiting.trailers = of_trailers(headers)
        waiting.end = True
        return b""

    def _send_reset(self, stream_id: int, status: Status) -> bytes:
        if not self._waiting:
            return self._sender.reset(stream_id, status)
        if self._waiting.pop(stream_id, None) is not None:
            return b""
        return self._sender.reset(stream_id, status) + self._open_waiting()

    # -- requests that wait -------------------------------------------------------------------------------------

    def _wait(
        self, stream_id: int, outgoing: Outgoing, added: list[Field] | None, end: bool
    ) -> None:
        self._reach(stream_id)
        self._due = True
        self._waiting[stream_id] = Waiting(
            fields=[*outgoing.fields, *(added or ())],
            declared=outgoing.declared,
            head_method=outgoing.head_method,
            connect=outgoing.connect,
            upgrade=outgoing.protocol,
            call=outgoing.call,
            end=end,
        )

    def _review_waiting(self, frames: list[Frame]) -> None:
        """Hold the requests that wait against what the server has said by now."""
        waiting = self._waiting
        last = self._goodbye.peer_last
        if last >= 0:
            # It will never look at these; the GoAway says so.
            for stream_id in [id_ for id_ in waiting if id_ > last]:
                del waiting[stream_id]
        most = self._sender.head_bytes
        if most != self._reviewed:
            self._reviewed = most
            for stream_id in [id_ for id_, one in waiting.items() if list_size(one.fields) > most]:
                self._decline(stream_id, _TOO_LONG, frames)
        if not self._sender.connect:
            for stream_id in [id_ for id_, one in waiting.items() if one.upgrade]:
                self._decline(stream_id, _NOT_OFFERED, frames)

    def _decline(self, stream_id: int, answer: ResponseHead, frames: list[Frame]) -> None:
        """Answer a request that waited, and that the server would not take."""
        del self._waiting[stream_id]
        self._streams.past.skip(stream_id, stream_id)
        frames.append(Head(stream_id, answer, b"", True))

    def _open_waiting(self) -> bytes:
        """Open streams for requests that wait, as many as there is room for."""
        waiting = self._waiting
        if not waiting or self._reader.stage is _SETTINGS:
            return b""
        parts: list[bytes] = []
        while waiting and len(self._streams.open) < self._sender.most_streams:
            stream_id = next(iter(waiting))
            parts.append(self._open_one(stream_id, waiting.pop(stream_id)))
        return b"".join(parts)

    def _open_one(self, stream_id: int, waiting: Waiting) -> bytes:
        sender = self._sender
        stream = Stream(_HALF_CLOSED_LOCAL if waiting.end else _OPEN)
        stream.owing = -1 if waiting.end else waiting.declared
        stream.call = waiting.call
        stream.upgrade = waiting.upgrade
        stream.connect = waiting.connect
        stream.unanswered = waiting.head_method
        self._open(stream_id, stream)
        head = Outgoing(waiting.fields, waiting.declared)
        if waiting.trailers:
            raw = sender.head(stream_id, head, False)
            return raw + sender.head(stream_id, Outgoing(waiting.trailers, -1), True)
        raw = sender.head(stream_id, head, waiting.end)
        if not waiting.end:
            # Whoever has its body waits for credit, which can only be given when something arrives.
            self._due = self._unheard = True
            raw += ping(_OPEN_PING)
        return raw

    # -- moving -------------------------------------------------------------------------------------------------

    def _snapshot(self) -> Snapshot:
        snapshot = super()._snapshot()
        snapshot.waiting = self._waiting
        snapshot.unheard = self._unheard
        snapshot.retiring = self._retiring
        return snapshot

    def resume(self, snapshot: Snapshot) -> None:
        """Take over the state that another codec of this role wrote down."""
        super().resume(snapshot)
        self._waiting = snapshot.waiting
        self._unheard = snapshot.unheard
        self._retiring = snapshot.retiring
