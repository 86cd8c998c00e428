"""The client's side: requests out, responses in.

Rules of this file:

* No request waits here. Above the number of streams that the server allows (RFC 9113 §5.1.2), or before it has said
  whether it takes such a one, it is refused as its driver's mistake: there is ``room``, and ``premature``.
* A server's pushes are not wanted, and it was told so before it could.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from xproxy.codecs.grpc.timeout import FIELD as TIMEOUT
from xproxy.codecs.grpc.timeout import format_timeout
from xproxy.codecs.http2.codec import Http2Codec
from xproxy.codecs.http2.faults import ConnectionFault, StreamFault
from xproxy.codecs.http2.limits import ANY_HEAD_BYTES, MAX_STREAM_ID, Http2Limits
from xproxy.codecs.http2.memory import Memory
from xproxy.codecs.http2.outgoing import added_fields, of_request
from xproxy.codecs.http2.reader import NOTHING
from xproxy.codecs.http2.snapshot import Snapshot
from xproxy.codecs.http2.state import Stage, State
from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.stream import Stream
from xproxy.codecs.http2.table import Field
from xproxy.codecs.http2.tunnel import granted
from xproxy.codecs.http2.wire import data_frames, header_frames
from xproxy.codecs.other_protocol import other_protocol
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Data, Frame, GoAway, Head
from xproxy.model.limits import Limits
from xproxy.model.message import RequestHead
from xproxy.model.traits import Role

_SETTINGS: Final = Stage.SETTINGS
_ENDED: Final = Stage.ENDED
_OPEN: Final = State.OPEN
_HALF_CLOSED_LOCAL: Final = State.HALF_CLOSED_LOCAL
_LAST_IDS: Final = 2**16
"""So many ids before the last one, no new requests are taken: the connection has had its time."""
_UNOFFERED: Final = "the server does not take CONNECT for a protocol (RFC 8441)"
_TOO_SOON: Final = (
    "not every server takes such a request, and this one has not said yet whether it does"
)


class ClientCodec(Http2Codec):
    """HTTP/2 towards an upstream."""

    __slots__ = ("_responses", "_retiring")
    role: ClassVar[Role] = Role.CLIENT

    def __init__(self, limits: Limits, own: Http2Limits, memory: Memory) -> None:
        super().__init__(limits, own, memory, Stage.SETTINGS)
        self._responses = memory.responses
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
        self._due = False
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
        if stage is _SETTINGS and (outgoing.protocol or outgoing.size > ANY_HEAD_BYTES):
            raise LocalProtocolError(_TOO_SOON)
        sender.check_head(outgoing, added or ())
        if outgoing.protocol and not sender.connect:
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
        if len(streams.open) >= sender.most_streams:
            raise LocalProtocolError(
                f"{len(streams.open)} requests are in flight, the server takes {sender.most_streams}"
            )
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

    # -- moving -------------------------------------------------------------------------------------------------

    def _snapshot(self) -> Snapshot:
        snapshot = super()._snapshot()
        snapshot.retiring = self._retiring
        return snapshot

    def resume(self, snapshot: Snapshot) -> None:
        """Take over the state that another codec of this role wrote down."""
        super().resume(snapshot)
        self._retiring = snapshot.retiring
