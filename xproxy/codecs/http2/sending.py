"""What leaves: frames → bytes, within the peer's settings and windows. Both roles.

Rules of this file:

* A stream that is over, by whosever reset, swallows what is still sent on it: the sender could not know. Only what
  never could be right is a LocalProtocolError.
* Bytes are made only when nothing can fail any more: after an error every state is as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from xproxy.codecs.http2.block import encode, size_updates
from xproxy.codecs.http2.connection import Connection
from xproxy.codecs.http2.limits import (
    FIRST_TABLE_BYTES,
    NO_HEAD_BOUND,
)
from xproxy.codecs.http2.memory import MOVES
from xproxy.codecs.http2.outgoing import Outgoing, list_size, of_trailers
from xproxy.codecs.http2.state import Stream
from xproxy.codecs.http2.status import ErrorCode, error_of
from xproxy.codecs.http2.table import Field
from xproxy.codecs.http2.wire import (
    data_frames,
    header_frames,
    rst_stream,
)
from xproxy.model.errors import HeadRefused, LocalProtocolError
from xproxy.model.frames import Credit, Data, Frame, GoAway, Head, Reply, Reset, Trailers
from xproxy.model.headers import Headers
from xproxy.model.status import Status

DRAIN_PING: Final = b"xproxy:d"
"""Sent behind the first GOAWAY: its answer tells that all that crossed it has arrived (RFC 9113 §6.8)."""
LIFE_PING: Final = b"xproxy:h"
_DRIBBLE_BYTES: Final = 64
"""A peer that opens windows for less at a time makes a frame, and a write, of each (CVE-2019-9511)."""


class Sender(Connection):
    """The way out of a connection."""

    __slots__ = ()

    # -- frames out ---------------------------------------------------------------------------------------------

    def send(self, frame: Frame) -> bytes:
        """Return the bytes for ``frame``. Raises LocalProtocolError."""
        if type(frame) is Head:
            raw = self._send_head(frame)
        elif type(frame) is Data:
            raw = self._send_data(frame.stream_id, frame.data, end=frame.end)
        elif type(frame) is Trailers:
            raw = self._send_trailers(frame.stream_id, frame.headers)
        elif type(frame) is Reset:
            raw = self._send_reset(frame.stream_id, frame.status)
        elif type(frame) is Reply:
            return frame.data
        elif type(frame) is GoAway:
            return self.goaway()
        elif type(frame) is Credit:
            return b""
        else:
            raise LocalProtocolError("a Violation is received, never sent")
        return raw if self._greeted else self._greet() + raw

    def _send_head(self, frame: Head) -> bytes:
        raise NotImplementedError

    def _late(self, stream_id: int) -> bytes:
        """Swallow what is sent on a stream that is over. Raises LocalProtocolError for one that never was."""
        if 0 < stream_id <= self._highest and stream_id & 1:
            return b""
        raise LocalProtocolError(f"stream {stream_id} was never opened")

    def _send_data(self, stream_id: int, data: bytes, *, end: bool) -> bytes:
        stream = self._streams.get(stream_id)
        if stream is None:
            return self._late(stream_id)
        if not stream.sending or not stream.spoken:
            raise LocalProtocolError(f"a body before its head, or after its end, on {stream_id}")
        if stream.muted:
            data = b""
        return self._body(stream_id, stream, data, end=end)

    def _body(self, stream_id: int, stream: Stream, data: bytes, *, end: bool) -> bytes:
        """Send a piece of a body. Raises LocalProtocolError."""
        size = len(data)
        self._check_room(stream, size)
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
        self._window_out -= size
        if (
            size >= _DRIBBLE_BYTES
            or end
            or (self._window_out > 0 and self._peer_first_window + stream.outbound > 0)
        ):
            # What is short because the window was is no work that explains another window.
            self._guard.data_out += 1
        if end:
            self._sent(stream_id, stream)
        return data_frames(stream_id, data, self._peer_frame_bytes, end=end)

    def _check_room(self, stream: Stream, size: int) -> None:
        if size > self._window_out or size > self._peer_first_window + stream.outbound:
            room = min(self._window_out, self._peer_first_window + stream.outbound)
            if size:
                raise LocalProtocolError(f"{size} bytes, the window lets {max(room, 0)} through")

    def _send_trailers(self, stream_id: int, headers: Headers) -> bytes:
        stream = self._streams.get(stream_id)
        if stream is None:
            return self._late(stream_id)
        if not stream.sending or not stream.spoken:
            raise LocalProtocolError(f"trailers before a head, or after the end, on {stream_id}")
        if stream.owing > 0:
            raise LocalProtocolError(f"body is {stream.owing} bytes shorter than the length sent")
        memory = self._memory.outgoing
        outgoing = memory.get(headers)
        if outgoing is None:
            outgoing = self._memory.keep(headers, Outgoing(of_trailers(headers), -1))
        self._check_head(outgoing)
        if not outgoing.fields or stream.muted:
            return self._body(stream_id, stream, b"", end=True)
        raw = header_frames(stream_id, self._write(outgoing), self._peer_frame_bytes, end=True)
        self._sent(stream_id, stream)
        return raw

    def _send_reset(self, stream_id: int, status: Status) -> bytes:
        stream = self._streams.pop(stream_id, None)
        if stream is None:
            held = self._held.pop(stream_id, None)
            if held is not None:
                self._intake.spare += held[1]
            return self._late(stream_id)
        self._intake.spare += stream.grown
        if stream.receiving:
            self._past.abandon(stream_id)
        lost = stream.connect and status is Status.UNAVAILABLE  # RFC 9113 §8.5
        code = ErrorCode.CONNECT_ERROR if lost else error_of(status)
        return rst_stream(stream_id, code)

    def _sent(self, stream_id: int, stream: Stream) -> None:
        """Note that our message was sent to its end."""
        stream.sending = False
        if not stream.receiving:
            self._close(stream_id, stream)

    def _close(self, stream_id: int, stream: Stream) -> None:
        del self._streams[stream_id]
        if not stream.grown:
            return
        if stream.unconsumed:
            self._held[stream_id] = [stream.unconsumed, stream.grown]
        else:
            self._intake.spare += stream.grown

    def _check_head(self, outgoing: Outgoing, added: Sequence[Field] = ()) -> None:
        """Raise HeadRefused for a header list that the peer said it does not take (RFC 9113 §10.5.1)."""
        most = self._peer_head_bytes
        if most == NO_HEAD_BOUND:
            return
        size = outgoing.size
        if added:
            size += list_size(added)
        if size > most:
            raise HeadRefused(f"header list is {size} bytes, the peer takes {most}")

    # -- header blocks ------------------------------------------------------------------------------------------

    def _write(self, outgoing: Outgoing) -> bytes:
        """Return the block of a head, and move our table on."""
        table = self._encoder
        known = outgoing.blocks.get(table)
        if known is not None and not self._resizes:
            self._encoder = known[1]
            return known[0]
        updates = self._resized()
        table = self._encoder
        block, following = encode(outgoing.fields, table)
        if following is table:
            outgoing.remember(table, block, table)
        else:
            self._moves_out += 1
            if self._moves_out <= MOVES:
                outgoing.remember(table, block, following)
            self._encoder = following
        return updates + block

    def _write_added(self, fields: list[Field]) -> bytes:
        """Return the block of fields that follow those of a head."""
        block, self._encoder = encode(fields, self._encoder)
        return block

    def _resized(self) -> bytes:
        """Apply the changes of our table that the peer asked for, and return their announcement."""
        sizes = self._resizes
        if not sizes:
            return b""
        table = self._encoder
        for size in sizes:
            table = table.resized(size)
        self._encoder = table if table.entries else self._memory.root(table.maximum)
        self._resizes = []
        return size_updates(sizes)

    def _bound_table(self, maximum: int) -> None:
        """Note how large the peer lets our table be; the next block says so (RFC 9113 §4.3.1, RFC 7541 §4.2)."""
        wanted = min(maximum, self._own.table_bytes, FIRST_TABLE_BYTES)
        sizes = self._resizes
        now = sizes[-1] if sizes else self._encoder.maximum
        if wanted == now:
            return
        smallest = min([*sizes, wanted])
        current = self._encoder.maximum
        # Only the smallest since the last block and the last one count.
        self._resizes = [wanted] if smallest == wanted else [smallest, wanted]
        if self._resizes == [current]:
            self._resizes = []
