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
from xproxy.codecs.http2.control import NOTHING
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
from xproxy.codecs.http2.snapshot import Snapshot
from xproxy.codecs.http2.state import Stage, Standing, Stream, Waiting
from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.table import Field
from xproxy.codecs.http2.tunnel import granted
from xproxy.codecs.http2.wire import HEADERS, data_frames, header_frames, ping
from xproxy.codecs.other_protocol import other_protocol
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Credit, Data, Frame, GoAway, Head, Reply
from xproxy.model.headers import Headers
from xproxy.model.limits import Limits
from xproxy.model.message import Local, Reason, RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role

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

    __slots__ = ("_retiring", "_unheard", "_waiting")
    role: ClassVar[Role] = Role.CLIENT

    def __init__(self, limits: Limits, own: Http2Limits, memory: Memory) -> None:
        super().__init__(limits, own, memory, Stage.SETTINGS)
        self._waiting: dict[int, Waiting] = {}
        self._unheard = False
        """Requests that waited were opened, and who has their bodies does not know it yet."""
        self._retiring = False
        """Ids run out: no more requests after those under way."""

    @property
    def settled(self) -> bool:
        """See SupportsConcurrency."""
        return self._stage is not Stage.SETTINGS

    @property
    def saturated(self) -> bool:
        """See SupportsConcurrency."""
        open_now = len(self._streams)
        return (
            open_now >= self._peer_streams
            or open_now >= self._limits.max_streams
            or self._stage is Stage.SETTINGS
        )

    @property
    def blocked(self) -> bool:
        """See SupportsConcurrency."""
        return self._window_out <= 0

    @property
    def waiting(self) -> int:
        """See SupportsConcurrency."""
        return len(self._waiting)

    def next_stream_id(self) -> int:
        """Return the id for the next request."""
        return self._highest + 2

    # -- bytes in -----------------------------------------------------------------------------------------------

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        """Take bytes from the server. None is the end of its input."""
        if data and self._stage is Stage.SETTINGS:
            # Before its settings a server has said nothing: here it shows that it is none of HTTP/2.
            start = bytes(self._buffer[:16]) + data[:16] if self._buffer is not None else data[:16]
            other = other_protocol(start, "HTTP/2")
            if other:
                return (self._violation(ConnectionFault(ErrorCode.PROTOCOL_ERROR, other)),)
        return super().receive(data)

    def _catch_up(self, frames: list[Frame]) -> None:
        if self._stage is Stage.ENDED:
            return
        self._due = False
        if self._unheard:
            self._unheard = False
            frames.append(Credit())
        if self._stage is Stage.SETTINGS:
            self._due = True
            return
        if self._waiting:
            if not self._peer_connect:
                self._decline_upgrades(frames)
            if raw := self._open_waiting():
                frames.append(Reply(raw))
            self._due = bool(self._waiting) or self._unheard
        if self._retiring:
            self._retiring = False
            frames.append(GoAway())

    def _head_block(self, stream_id: int, block: bytes, end: bool, frames: list[Frame]) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            self._unexpected(HEADERS, stream_id)
            self._skip_block(block)
            self._guard.on_control()
            frames.append(Reply(b""))
            return
        if not stream.receiving:
            self._skip_block(block)
            self._judge(Standing.ENDED_BY_PEER, HEADERS, stream_id)
        if stream.headed:
            self._trailers(stream_id, stream, block, end, frames)
            return
        blocks = self._memory.responses
        read = blocks.steady.get((self._decoder, block)) or self._read_block(blocks, block)
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
                self._received(stream_id, stream)
            return
        frames.append(Head(stream_id, message, b"", end))
        if end:
            self._received(stream_id, stream)

    def _forget_above(self, last: int) -> None:
        super()._forget_above(last)
        for stream_id in [id_ for id_ in self._waiting if id_ > last]:
            del self._waiting[stream_id]

    # -- bytes out ----------------------------------------------------------------------------------------------

    def _send_head(self, frame: Head) -> bytes:
        message = frame.message
        stream_id = frame.stream_id
        if type(message) is not RequestHead or frame.interim:
            raise LocalProtocolError("a client sends requests only")
        if not self._highest < stream_id <= MAX_STREAM_ID or not stream_id & 1:
            raise LocalProtocolError(
                f"stream {stream_id} is not an odd number above {self._highest}"
            )
        if self._peer_gone >= 0 or self._stage is Stage.ENDED:
            raise LocalProtocolError("a request on a connection that takes no more of them")
        added: list[Field] | None = None
        memory = self._memory.outgoing
        base = message.base
        if base is not None:
            added = added_fields(message.added)
        if added is not None and base is not None:
            outgoing = memory.get(base) or self._memory.keep(base, of_request(base))
        else:
            outgoing = memory.get(message) or self._memory.keep(message, of_request(message))
        untold = self._stage is Stage.SETTINGS and (
            outgoing.protocol or outgoing.size > ANY_HEAD_BYTES
        )
        self._check_head(outgoing, added or ())
        if outgoing.protocol and not (self._peer_connect or untold):
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
        if untold or self._waiting or len(self._streams) >= self._peer_streams:
            if size:
                raise LocalProtocolError("no stream is free for a body that comes with its head")
            self._wait(stream_id, outgoing, added, end=end)
            return b""
        stream = Stream(receiving=True, sending=not end)
        self._check_room(stream, size)
        block = self._write(outgoing)
        if added:
            block += self._write_added(added)
        stream.call = outgoing.call
        stream.upgrade = outgoing.protocol
        self._open(stream_id, stream, muted=outgoing.head_method, connect=outgoing.connect)
        raw = header_frames(stream_id, block, self._peer_frame_bytes, end=end and not size)
        if size:
            stream.outbound -= size
            self._window_out -= size
            self._guard.data_out += 1
            raw += data_frames(stream_id, data, self._peer_frame_bytes, end=end)
        stream.owing = -1 if end or declared < 0 else declared - size
        return raw

    def _open(self, stream_id: int, stream: Stream, *, muted: bool, connect: bool) -> None:
        """Begin a stream."""
        if stream_id > self._highest:
            self._skip_to(stream_id)
        self._guard.on_stream()
        stream.spoken = True
        stream.connect = connect
        stream.unanswered = muted
        self._streams[stream_id] = stream

    def _skip_to(self, stream_id: int) -> None:
        if stream_id != self._highest + 2:
            self._past.skip(self._highest + 2, stream_id - 2)
        if self._highest <= MAX_STREAM_ID - _LAST_IDS < stream_id:
            self._due = self._retiring = True
        self._highest = stream_id

    def _apply(self, values: dict[int, int], frames: list[Frame]) -> None:
        super()._apply(values, frames)
        most = self._peer_head_bytes
        if self._waiting and most != NO_HEAD_BOUND:
            long = [id_ for id_, one in self._waiting.items() if list_size(one.fields) > most]
            for stream_id in long:
                self._decline(stream_id, _TOO_LONG, frames)

    # -- requests that wait -------------------------------------------------------------------------------------

    def _wait(
        self, stream_id: int, outgoing: Outgoing, added: list[Field] | None, *, end: bool
    ) -> None:
        self._skip_to(stream_id)
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

    def _open_waiting(self) -> bytes:
        """Open streams for requests that wait, as many as there is room for."""
        parts: list[bytes] = []
        while (
            self._stage is not Stage.SETTINGS
            and self._waiting
            and len(self._streams) < self._peer_streams
        ):
            stream_id, waiting = next(iter(self._waiting.items()))
            del self._waiting[stream_id]
            parts.append(self._open_one(stream_id, waiting))
        return b"".join(parts)

    def _decline_upgrades(self, frames: list[Frame]) -> None:
        """Answer requests for a tunnel that waited for the server's first SETTINGS, which do not offer it."""
        for stream_id in [id_ for id_, one in self._waiting.items() if one.upgrade]:
            self._decline(stream_id, _NOT_OFFERED, frames)

    def _decline(self, stream_id: int, answer: ResponseHead, frames: list[Frame]) -> None:
        """Answer a request that waited, and that the server would not take."""
        del self._waiting[stream_id]
        self._past.skip(stream_id, stream_id)
        frames.append(Head(stream_id, answer, b"", True))

    def _open_one(self, stream_id: int, waiting: Waiting) -> bytes:
        stream = Stream(receiving=True, sending=not waiting.end)
        stream.owing = -1 if waiting.end else waiting.declared
        stream.call = waiting.call
        stream.upgrade = waiting.upgrade
        self._open(stream_id, stream, muted=waiting.head_method, connect=waiting.connect)
        longest = self._peer_frame_bytes
        only_head = waiting.end and not waiting.trailers
        block = self._write(Outgoing(waiting.fields, waiting.declared))
        raw = header_frames(stream_id, block, longest, end=only_head)
        if waiting.trailers:
            block = self._write(Outgoing(waiting.trailers, -1))
            raw += header_frames(stream_id, block, longest, end=True)
        if not waiting.end:
            # Whoever has its body waits for credit, which can only be given when something arrives.
            self._due = self._unheard = True
            raw += ping(_OPEN_PING)
        return raw

    def _send_data(self, stream_id: int, data: bytes, *, end: bool) -> bytes:
        waiting = self._waiting.get(stream_id)
        if waiting is None:
            return self._after(super()._send_data(stream_id, data, end=end))
        if data or waiting.end:
            raise LocalProtocolError(f"a body on stream {stream_id}, which is not open yet")
        if end and waiting.declared > 0:
            raise LocalProtocolError("body is shorter than the length sent")
        waiting.end = end
        return b""

    def _send_trailers(self, stream_id: int, headers: Headers) -> bytes:
        waiting = self._waiting.get(stream_id)
        if waiting is None:
            return self._after(super()._send_trailers(stream_id, headers))
        if waiting.end:
            raise LocalProtocolError(f"trailers after the end, on {stream_id}")
        waiting.trailers = of_trailers(headers)
        waiting.end = True
        return b""

    def _send_reset(self, stream_id: int, status: Status) -> bytes:
        if self._waiting.pop(stream_id, None) is not None:
            return b""
        return self._after(super()._send_reset(stream_id, status))

    def _after(self, raw: bytes) -> bytes:
        """Add the requests for which what was just sent made room."""
        return raw + self._open_waiting() if self._waiting else raw

    # -- moving -------------------------------------------------------------------------------------------------

    def _snapshot(self) -> Snapshot:
        snapshot = super()._snapshot()
        snapshot.flags[-2:] = [self._unheard, self._retiring]
        snapshot.waiting = self._waiting
        return snapshot

    def resume(self, snapshot: Snapshot) -> None:
        """Take over the state that another codec of this role wrote down."""
        super().resume(snapshot)
        self._unheard, self._retiring = snapshot.flags[-2:]
        self._waiting = snapshot.waiting
