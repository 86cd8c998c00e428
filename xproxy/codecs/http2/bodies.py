"""Bodies that arrive: DATA frames, the windows and lengths they are held to, and the pieces they are delivered in.

Rule of this file: the connection's window holds nobody back, so credit for it is given as bytes arrive, whatever
becomes of them (see ``windows``).
"""

from __future__ import annotations

from typing import Final

from xproxy.codecs.http2.faults import ConnectionFault, StreamFault, protocol_error
from xproxy.codecs.http2.guard import Guard
from xproxy.codecs.http2.reader import NOTHING
from xproxy.codecs.http2.state import Event
from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.stream import Stream
from xproxy.codecs.http2.streams import Streams
from xproxy.codecs.http2.windows import Windows
from xproxy.codecs.http2.wire import END_STREAM, HEADER_BYTES, PADDED, unpadded
from xproxy.codecs.runs import BLOCK, TINY, joined, run_length
from xproxy.model.frames import Data, Frame, Head, Reply

_JOINED_BYTES: Final = 2048
"""Pieces of a body join the last one of the same read while that is shorter."""
_LOOK_BACK: Final = 16
"""Frames among which the one that tiny pieces join is looked for."""
_WORTHY_BYTES: Final = 1024
"""A DATA frame that comes too late counts as idle below this: a window full of larger ones may be on its way."""


class Bodies:
    """The way in for DATA. It has no state of its own."""

    __slots__ = ("_guard", "_streams", "_windows")

    def __init__(self, streams: Streams, windows: Windows, guard: Guard) -> None:
        self._streams = streams
        self._windows = windows
        self._guard = guard

    def take(self, flags: int, stream_id: int, payload: bytes, frames: list[Frame]) -> None:
        """Take a DATA frame. Raises ConnectionFault and StreamFault."""
        size = len(payload)
        data = unpadded(flags, payload) if flags & PADDED else payload
        windows = self._windows
        if size > windows.inbound:
            raise ConnectionFault(
                ErrorCode.FLOW_CONTROL_ERROR,
                f"{size - windows.inbound} bytes beyond the window of the connection",
            )
        windows.inbound -= size
        stream = self._streams.open.get(stream_id)
        if stream is None:
            self._late(stream_id, size, frames)
            return
        if credit := windows.give(size):
            frames.append(Reply(credit))
        stream.unconsumed += size
        if not stream.state.receiving:
            self._streams.judge(Event.DATA_ARRIVE, stream_id)
        stream.inbound -= size
        if windows.first_inbound + stream.inbound < 0:
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "bytes beyond the window of the stream")
        if not stream.headed:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "DATA before a head")
        end = bool(flags & END_STREAM)
        if data:
            guard = self._guard
            guard.data_in += 1
            guard.empty = 0
        elif not end:
            self._guard.on_empty()
            frames.append(NOTHING)
        if stream.expected >= 0:
            _count_down(stream, len(data), end=end)
        if data or end:
            deliver(stream_id, data, end, frames)
        if size > len(data):
            padding = size - len(data)
            stream.unconsumed -= padding
            frames.append(Reply(windows.renew(stream_id, stream, padding)))
        if end:
            self._streams.received(stream_id, stream)

    def _late(self, stream_id: int, size: int, frames: list[Frame]) -> None:
        """Take DATA of a stream that is not open."""
        if not stream_id:
            raise protocol_error("DATA on stream 0")
        self._streams.judge(Event.DATA_ARRIVE, stream_id)
        if size < _WORTHY_BYTES:
            self._guard.on_control()
        frames.append(Reply(self._windows.give(size)))

    def take_run(
        self, data: bytes, position: int, size: int, stream_id: int, frames: list[Frame]
    ) -> int:
        """Take the DATA frames that are like the one before, if they are many; return where they end."""
        head = data[position - HEADER_BYTES - size : position - size]
        last = position + (BLOCK - 1) * (HEADER_BYTES + size)
        if data[position : position + HEADER_BYTES] != head or not data.startswith(head, last):
            return position
        stream = self._streams.open.get(stream_id)
        if not size or stream is None or not stream.state.receiving:
            return position
        windows = self._windows
        # What is beyond these is taken one by one: one of them is a fault.
        room = min(windows.inbound, windows.first_inbound + stream.inbound)
        if 0 <= stream.expected < room:
            room = stream.expected
        count = run_length(data, position, head, size, most=room // size)
        if not count:
            return position
        total = count * size
        windows.inbound -= total
        if credit := windows.give(total):
            frames.append(Reply(credit))
        stream.unconsumed += total
        stream.inbound -= total
        if stream.expected >= 0:
            stream.expected -= total
        self._guard.data_in += count
        deliver(stream_id, joined(data, position, count, HEADER_BYTES, size), False, frames)
        return position + count * (HEADER_BYTES + size)


def deliver(stream_id: int, data: bytes, end: bool, frames: list[Frame]) -> None:
    """Add body bytes; they join the head, and the end joins the last bytes, if these came just before."""
    last = frames[-1] if frames else None
    if type(last) is Head:
        if last.stream_id == stream_id and not last.interim and not (last.data and data):
            frames[-1] = Head(stream_id, last.message, last.data or data, end)
            return
    elif (
        type(last) is Data
        and last.stream_id == stream_id
        and (len(last.data) < _JOINED_BYTES or not data)
    ):
        # A peer may cut a body into bytes: what is behind this need not see each of them.
        frames[-1] = Data(stream_id, last.data + data, end)
        return
    elif len(data) <= TINY and type(last) is Data:
        # Nor need it if several bodies are cut so, and the bytes come by turns: streams are independent.
        for at in range(len(frames) - 2, max(len(frames) - _LOOK_BACK, 0) - 1, -1):
            before = frames[at]
            if type(before) is not Data:
                break
            if before.stream_id == stream_id:
                if len(before.data) >= _JOINED_BYTES:
                    break
                frames[at] = Data(stream_id, before.data + data, end)
                return
    frames.append(Data(stream_id, data, end))


def short_of(stream: Stream) -> StreamFault:
    """Return the fault that a body is which ends before its length."""
    return StreamFault(
        ErrorCode.PROTOCOL_ERROR, f"the body ends {stream.expected} bytes short of its length"
    )


def _count_down(stream: Stream, size: int, *, end: bool) -> None:
    """Compare a body with the length declared for it (RFC 9113 §8.1.1). Raises StreamFault."""
    expected = stream.expected - size
    if expected < 0:
        raise StreamFault(
            ErrorCode.PROTOCOL_ERROR, f"{-expected} body bytes beyond the length declared"
        )
    stream.expected = expected
    if end and expected:
        raise short_of(stream)
