"""What leaves, within the peer's settings and windows: bodies, trailers, resets. Heads are made by either role.

Rules of this file:

* A stream that is over, by whosever reset, swallows what is still sent on it: the sender could not know. Only what
  never could be right is a LocalProtocolError.
* Bytes are made only when nothing can fail any more: after an error every state is as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from xproxy.codecs.http2.guard import Guard
from xproxy.codecs.http2.header_writer import HeaderWriter
from xproxy.codecs.http2.limits import FIRST_FRAME_BYTES, FIRST_STREAMS, NO_HEAD_BOUND
from xproxy.codecs.http2.memory import Memory
from xproxy.codecs.http2.outgoing import Outgoing, list_size, of_trailers
from xproxy.codecs.http2.state import Event
from xproxy.codecs.http2.status import ErrorCode, error_of
from xproxy.codecs.http2.stream import Stream
from xproxy.codecs.http2.streams import Streams
from xproxy.codecs.http2.table import Field
from xproxy.codecs.http2.windows import Windows
from xproxy.codecs.http2.wire import data_frames, header_frames, rst_stream
from xproxy.model.errors import HeadRefused, LocalProtocolError
from xproxy.model.headers import Headers
from xproxy.model.status import Status

_DRIBBLE_BYTES: Final = 64
"""A peer that opens windows for less at a time makes a frame, and a write, of each (CVE-2019-9511)."""


class Sender:
    """What the peer takes, and what is sent within that."""

    __slots__ = (
        "_guard",
        "_header_writer",
        "_memory",
        "_streams",
        "_windows",
        "connect",
        "frame_bytes",
        "head_bytes",
        "most_streams",
    )

    def __init__(
        self,
        memory: Memory,
        streams: Streams,
        windows: Windows,
        header_writer: HeaderWriter,
        guard: Guard,
    ) -> None:
        self._memory = memory
        self._streams = streams
        self._windows = windows
        self._header_writer = header_writer
        self._guard = guard
        self.frame_bytes = FIRST_FRAME_BYTES
        """The longest payload of a frame."""
        self.most_streams = FIRST_STREAMS
        """Requests at a time (client only)."""
        self.head_bytes = NO_HEAD_BOUND
        """The longest header list, as RFC 9113 §6.5.2 counts."""
        self.connect = False
        """CONNECT for a protocol (RFC 8441)."""

    def late(self, stream_id: int) -> bytes:
        """Swallow what is sent on a stream that is over. Raises LocalProtocolError for one that never was."""
        if self._streams.used(stream_id):
            return b""
        raise LocalProtocolError(f"stream {stream_id} was never opened")

    def data(self, stream_id: int, data: bytes, end: bool) -> bytes:
        """Send a piece of a body. Raises LocalProtocolError."""
        stream = self._streams.open.get(stream_id)
        if stream is None:
            return self.late(stream_id)
        if not stream.spoken or not stream.state.sending:
            raise LocalProtocolError(f"a body before its head, or after its end, on {stream_id}")
        return self.body(stream_id, stream, b"" if stream.muted else data, end)

    def body(self, stream_id: int, stream: Stream, data: bytes, end: bool) -> bytes:
        """Send a piece of a body on an open stream. Raises LocalProtocolError."""
        size = len(data)
        windows = self._windows
        if size:
            windows.check(stream, size)
        if stream.owing >= 0:
            owing = stream.owing - size
            if owing < 0:
                raise LocalProtocolError(f"body is {-owing} bytes longer than the length sent")
            if end and owing:
                raise LocalProtocolError(f"body is {owing} bytes shorter than the length sent")
            stream.owing = owing
        if not size and not end:
            return b""
        stream.outbound -= size
        windows.outbound -= size
        if size >= _DRIBBLE_BYTES or end or windows.room(stream):
            # What is short because the window was is no work that explains another window.
            self._guard.data_out += 1
        if end:
            self._streams.sent(stream_id, stream)
        return data_frames(stream_id, data, self.frame_bytes, end=end)

    def trailers(self, stream_id: int, headers: Headers) -> bytes:
        """Send trailers, or the end alone if none of them may stand there. Raises LocalProtocolError."""
        stream = self._streams.open.get(stream_id)
        if stream is None:
            return self.late(stream_id)
        if not stream.spoken or not stream.state.sending:
            raise LocalProtocolError(f"trailers before a head, or after the end, on {stream_id}")
        if stream.owing > 0:
            raise LocalProtocolError(f"body is {stream.owing} bytes shorter than the length sent")
        outgoing = self._memory.outgoing.get(headers)
        if outgoing is None:
            outgoing = self._memory.keep(headers, Outgoing(of_trailers(headers), -1))
        self.check_head(outgoing)
        if not outgoing.fields or stream.muted:
            return self.body(stream_id, stream, b"", True)
        return self.last_head(stream_id, stream, outgoing)

    def head(self, stream_id: int, outgoing: Outgoing, end: bool) -> bytes:
        """Return a header block, which may say that it ends our message. Whoever calls has seen to its stream."""
        block = self._header_writer.write(outgoing)
        return header_frames(stream_id, block, self.frame_bytes, end=end)

    def last_head(self, stream_id: int, stream: Stream, outgoing: Outgoing) -> bytes:
        """Return a header block that ends our message, and note that it does."""
        block = self._header_writer.write(outgoing)
        stream.spoken = True
        self._streams.sent(stream_id, stream)
        return header_frames(stream_id, block, self.frame_bytes, end=True)

    def reset(self, stream_id: int, status: Status) -> bytes:
        """Give a stream up. Raises LocalProtocolError for one that never was."""
        streams = self._streams
        if stream_id not in streams.open:
            streams.release(stream_id)
            return self.late(stream_id)
        stream = streams.end(stream_id, Event.RESET_LEAVES)
        lost = stream.connect and status is Status.UNAVAILABLE  # RFC 9113 §8.5
        code = ErrorCode.CONNECT_ERROR if lost else error_of(status)
        return rst_stream(stream_id, code)

    def check_head(self, outgoing: Outgoing, added: Sequence[Field] = ()) -> None:
        """Raise HeadRefused for a header list that the peer said it does not take (RFC 9113 §10.5.1)."""
        most = self.head_bytes
        if most == NO_HEAD_BOUND:
            return
        size = outgoing.size
        if added:
            size += list_size(added)
        if size > most:
            raise HeadRefused(f"header list is {size} bytes, the peer takes {most}")
