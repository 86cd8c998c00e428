"""What arrives: bytes → frames. What both roles share; ``server.py`` and ``client.py`` say what begins a message.

Rules of this file:

* One loop over all frames of a read; ``_buffer`` holds only a frame that is not whole. Its length is checked before.
* Every frame that is whole gives the driver at least one, if only an empty Reply: no frames at all means that
  something is half here.
* A header block is decompressed whatever becomes of its stream: the tables must stay the same (RFC 9113 §4.3). So one
  that is too long is read to its end, within a bound, and only its stream is refused.
* The connection's window holds nobody back: credit for it is given as bytes arrive (see ``flow``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

from xproxy.codecs.grpc.status import status_in
from xproxy.codecs.http2.block import decode
from xproxy.codecs.http2.control import NOTHING, TAKERS, Control, protocol_error
from xproxy.codecs.http2.faults import ConnectionFault, Oversized, StreamFault
from xproxy.codecs.http2.limits import FIRST_TABLE_BYTES, HEADS_READ
from xproxy.codecs.http2.memory import MOVES, Blocks, Read
from xproxy.codecs.http2.state import Stage, Standing, Stream
from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.wire import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADER,
    HEADER_BYTES,
    HEADERS,
    PADDED,
    PREFACE,
    SETTINGS,
    STREAM_BITS,
    WITH_PRIORITY,
    goaway,
    rst_stream,
    unpadded,
)
from xproxy.codecs.runs import BLOCK, TINY, joined, run_length
from xproxy.model.frames import Data, Frame, Head, Reply, Reset, Trailers, Violation
from xproxy.model.status import Status
from xproxy.model.traits import Role

P = TypeVar("P")

_RUNNING: Final = Stage.RUNNING
_ENDED: Final = Stage.ENDED
_PLAIN_HEADERS: Final = frozenset({END_HEADERS, END_HEADERS | END_STREAM})
_HEAD_KINDS: Final = frozenset({HEADERS, CONTINUATION})
_HEAD_EXTRA: Final = 1 + 255 + 5
"""Bytes in HEADERS beside the block: pad length, padding, priority."""
_DEBUG_BYTES: Final = 128
_JOINED_BYTES: Final = 2048
"""Pieces of a body join the last one of the same read while that is shorter."""
_LOOK_BACK: Final = 16
"""Frames among which the one that tiny pieces join is looked for."""
_WORTHY_BYTES: Final = 1024
"""A DATA frame that comes too late counts as idle below this: a window full of larger ones may be on its way."""


class Http2Codec(Control):
    """One connection."""

    __slots__ = ()

    # -- bytes in -----------------------------------------------------------------------------------------------

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        """Take bytes from the peer. None is the end of its input."""
        if self._stage is _ENDED:
            return ()
        frames: list[Frame] = []
        if not self._greeted:
            frames.append(Reply(self._greet()))
        if data is None:
            self._stop()
            return frames
        buffer = self._buffer
        if buffer is not None:
            buffer += data
            if len(buffer) < self._needed:
                return frames
            data = bytes(buffer)
        try:
            used = self._read(data, frames)
        except ConnectionFault as fault:
            frames.append(self._violation(fault))
            return frames
        self._buffer = bytearray(data[used:]) if used < len(data) else None
        if self._due and data:
            self._catch_up(frames)
        return frames

    def _catch_up(self, frames: list[Frame]) -> None:
        """Do what could only be done when something arrives."""
        self._due = False

    def _stop(self) -> None:
        """Read nothing more, and keep nothing for it."""
        self._stage = _ENDED
        self._buffer = None
        self._block = None

    @property
    def unfinished(self) -> bool:
        """See SupportsProgress: a frame, or a header block, that is not whole."""
        return self._buffer is not None or self._block is not None

    def overdue(self) -> Violation:
        """See SupportsDeadline."""
        return self._violation(
            ConnectionFault(
                ErrorCode.SETTINGS_TIMEOUT,
                f"settings not acknowledged within {self._own.settings_timeout:g} s",
                "settings_timeout",
            )
        )

    def _violation(self, fault: ConnectionFault) -> Violation:
        self._stop()
        farewell = goaway(
            max(self._highest, 0) if self.role is Role.SERVER else 0,
            fault.code,
            fault.detail.encode("ascii", "replace")[:_DEBUG_BYTES],
        )
        if fault.code is ErrorCode.ENHANCE_YOUR_CALM:
            reason = Status.RESOURCE_EXHAUSTED
        elif self.role is Role.SERVER:
            reason = Status.INVALID_ARGUMENT
        else:
            reason = Status.UNAVAILABLE
        return Violation(fault.detail, farewell, reason, fault.limit)

    def _read(self, data: bytes, frames: list[Frame]) -> int:
        """Add the frames that ``data`` brings; return how much was used. Raises ConnectionFault after good ones."""
        position = 0
        if self._stage is not _RUNNING and self._stage is Stage.MAGIC:
            if data[: len(PREFACE)] != PREFACE[: len(data)]:
                raise protocol_error("not the connection preface of HTTP/2")
            if len(data) < len(PREFACE):
                self._needed = 0
                return 0
            position = len(PREFACE)
            self._stage = Stage.SETTINGS
            frames.append(NOTHING)
        size = len(data)
        longest = self._own.frame_bytes
        most_head = self._limits.max_head_bytes * HEADS_READ + _HEAD_EXTRA
        unpack = HEADER.unpack_from
        self._needed = HEADER_BYTES
        while size - position >= HEADER_BYTES:
            high, low, kind, flags, stream_id = unpack(data, position)
            length = high << 16 | low
            if length > longest:
                raise ConnectionFault(
                    ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes, limit {longest}"
                )
            if (length > most_head or self._block is not None) and kind in _HEAD_KINDS:
                self._check_block(length)
            end = position + HEADER_BYTES + length
            if end > size:
                self._needed = end - position
                break
            payload = data[position + HEADER_BYTES : end]
            position = end
            stream_id &= STREAM_BITS
            try:
                if self._stage is not _RUNNING or self._block is not None:
                    self._out_of_line(kind, flags, stream_id, payload, frames)
                elif kind == HEADERS:
                    if flags in _PLAIN_HEADERS and stream_id:
                        self._head_block(stream_id, payload, bool(flags & END_STREAM), frames)
                    else:
                        self._headers(flags, stream_id, payload, frames)
                elif kind == DATA:
                    self._data(flags, stream_id, payload, frames)
                    if length <= TINY and not flags:
                        position = self._run(data, position, length, stream_id, frames)
                else:
                    self._control(kind, flags, stream_id, payload, frames)
            except StreamFault as fault:
                self._fault(stream_id, fault, frames)
        return position

    def _check_block(self, length: int) -> None:
        """Raise ConnectionFault for a header block that its next frame would make too long to be read."""
        most = self._limits.max_head_bytes * HEADS_READ
        size = length if self._block is None else length + len(self._block)
        if size > most:
            # The CONTINUATION flood (CVE-2024-27316): a block that never ends.
            raise ConnectionFault(
                ErrorCode.ENHANCE_YOUR_CALM,
                f"a header block of {size} bytes, limit {most}",
                "max_head_bytes",
            )

    def _out_of_line(
        self, kind: int, flags: int, stream_id: int, payload: bytes, frames: list[Frame]
    ) -> None:
        """Take a frame where only one kind is right."""
        if self._block is not None:
            if kind != CONTINUATION or stream_id != self._block_stream:
                raise protocol_error("a header block that is interrupted by another frame")
            self._continuation(flags, payload, frames)
            return
        if kind != SETTINGS or flags & ACK:
            raise protocol_error("the first frame is not SETTINGS")
        self._settings(flags, stream_id, payload, frames)
        self._stage = _RUNNING

    def _control(
        self, kind: int, flags: int, stream_id: int, payload: bytes, frames: list[Frame]
    ) -> None:
        take = TAKERS.get(kind)
        if take is None:
            # RFC 9113 §5.5: unknown kinds are ignored.
            self._guard.on_control()
            frames.append(NOTHING)
        else:
            take(self, flags, stream_id, payload, frames)

    # -- header blocks ------------------------------------------------------------------------------------------

    def _headers(self, flags: int, stream_id: int, payload: bytes, frames: list[Frame]) -> None:
        if not stream_id:
            raise protocol_error("HEADERS on stream 0")
        fragment = unpadded(flags, payload)
        if flags & WITH_PRIORITY:
            if len(fragment) < 5:
                raise ConnectionFault(
                    ErrorCode.FRAME_SIZE_ERROR, "HEADERS that end within their priority"
                )
            fragment = fragment[5:]
        if flags & END_HEADERS:
            self._head_block(stream_id, fragment, bool(flags & END_STREAM), frames)
            return
        if not fragment:
            self._guard.on_empty()
        self._block = bytearray(fragment)
        self._block_stream = stream_id
        self._block_end = bool(flags & END_STREAM)
        self._block_frames = 0

    def _continuation(self, flags: int, payload: bytes, frames: list[Frame]) -> None:
        block = self._block
        assert block is not None
        most_bytes = self._limits.max_head_bytes * HEADS_READ
        most_frames = self._own.max_continuations + most_bytes // self._own.frame_bytes
        self._block_frames += 1
        if not payload:
            self._guard.on_empty()
        if self._block_frames > most_frames or len(block) + len(payload) > most_bytes:
            # The CONTINUATION flood (CVE-2024-27316): a block that never ends.
            raise ConnectionFault(
                ErrorCode.ENHANCE_YOUR_CALM,
                f"a header block above {most_bytes} bytes, or {most_frames} CONTINUATION frames",
                "max_continuations" if self._block_frames > most_frames else "max_head_bytes",
            )
        block += payload
        if flags & END_HEADERS:
            self._block = None
            self._head_block(self._block_stream, bytes(block), self._block_end, frames)

    def _head_block(self, stream_id: int, block: bytes, end: bool, frames: list[Frame]) -> None:
        """Take a whole header block. Raises ConnectionFault and StreamFault."""
        raise NotImplementedError

    def _read_block(self, blocks: Blocks[P], block: bytes) -> Read[P]:
        """Read a block that is not remembered, and move the peer's table on."""
        table = self._decoder
        read = blocks.read(
            table,
            block,
            self._table_bytes,
            self._limits.max_head_bytes,
            young=self._moves_in < MOVES,
        )
        if read.table is not table:
            self._moves_in += 1
            self._decoder = read.table
        return read

    def _skip_block(self, block: bytes) -> None:
        """Read a block for its effect on the table alone."""
        most = self._limits.max_head_bytes
        try:
            _, self._decoder = decode(block, self._decoder, self._table_bytes, most)
        except Oversized as oversized:
            self._decoder = oversized.table

    @property
    def _table_bytes(self) -> int:
        # What we announced holds once it was acknowledged; before that the peer may use either.
        own = self._own.table_bytes
        return own if self._acknowledged else max(own, FIRST_TABLE_BYTES)

    def _trailers(
        self, stream_id: int, stream: Stream, block: bytes, end: bool, frames: list[Frame]
    ) -> None:
        """Take a header block after a body."""
        if stream.connect:
            # RFC 9113 §8.5; the block is read, but its stream ends.
            self._skip_block(block)
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "fields where a tunnel is open")
        blocks = self._memory.trailers
        read = blocks.steady.get((self._decoder, block)) or self._read_block(blocks, block)
        if read.malformed is not None:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, read.malformed.detail)
        if not end:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "trailers that do not end the stream")
        if stream.expected > 0:
            raise _short_of(stream)
        headers = read.parsed
        if headers:
            outcome = status_in(headers) if stream.call else None
            frames.append(Trailers(stream_id, headers, outcome))
        else:
            self._deliver(stream_id, b"", True, frames)
        self._received(stream_id, stream)

    # -- bodies -------------------------------------------------------------------------------------------------

    def _data(self, flags: int, stream_id: int, payload: bytes, frames: list[Frame]) -> None:
        size = len(payload)
        data = unpadded(flags, payload) if flags & PADDED else payload
        intake = self._intake
        if size > intake.window:
            raise ConnectionFault(
                ErrorCode.FLOW_CONTROL_ERROR,
                f"{size - intake.window} bytes beyond the window of the connection",
            )
        intake.window -= size
        stream = self._streams.get(stream_id)
        if stream is None:
            if not stream_id:
                raise protocol_error("DATA on stream 0")
            self._unexpected(DATA, stream_id)
            if size < _WORTHY_BYTES:
                self._guard.on_control()
            frames.append(Reply(intake.give(size)))
            return
        if credit := intake.give(size):
            frames.append(Reply(credit))
        stream.unconsumed += size
        if not stream.receiving:
            self._judge(Standing.ENDED_BY_PEER, DATA, stream_id)
        stream.inbound -= size
        if self._first_window_in + stream.inbound < 0:
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
            self._count_down(stream, len(data), end=end)
        if data or end:
            self._deliver(stream_id, data, end, frames)
        if size > len(data):
            padding = size - len(data)
            stream.unconsumed -= padding
            frames.append(Reply(intake.renew(stream_id, stream, padding)))
        if end:
            stream.receiving = False
            if not stream.sending:
                self._close(stream_id, stream)

    def _run(
        self, data: bytes, position: int, size: int, stream_id: int, frames: list[Frame]
    ) -> int:
        """Take the DATA frames that are like the one before, if they are many; return where they end."""
        head = data[position - HEADER_BYTES - size : position - size]
        last = position + (BLOCK - 1) * (HEADER_BYTES + size)
        if data[position : position + HEADER_BYTES] != head or not data.startswith(head, last):
            return position
        stream = self._streams.get(stream_id)
        if not size or stream is None or not stream.receiving:
            return position
        # What is beyond these is taken one by one: one of them is a fault.
        room = min(self._intake.window, self._first_window_in + stream.inbound)
        if 0 <= stream.expected < room:
            room = stream.expected
        count = run_length(data, position, head, size, most=room // size)
        if not count:
            return position
        total = count * size
        self._intake.window -= total
        if credit := self._intake.give(total):
            frames.append(Reply(credit))
        stream.unconsumed += total
        stream.inbound -= total
        if stream.expected >= 0:
            stream.expected -= total
        self._guard.data_in += count
        self._deliver(stream_id, joined(data, position, count, HEADER_BYTES, size), False, frames)
        return position + count * (HEADER_BYTES + size)

    @staticmethod
    def _count_down(stream: Stream, size: int, *, end: bool) -> None:
        """Compare a body with the length declared for it (RFC 9113 §8.1.1). Raises StreamFault."""
        expected = stream.expected - size
        if expected < 0:
            raise StreamFault(
                ErrorCode.PROTOCOL_ERROR, f"{-expected} body bytes beyond the length declared"
            )
        stream.expected = expected
        if end and expected:
            raise _short_of(stream)

    @staticmethod
    def _deliver(stream_id: int, data: bytes, end: bool, frames: list[Frame]) -> None:
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

    def _received(self, stream_id: int, stream: Stream) -> None:
        """Note that the peer's message has ended."""
        stream.receiving = False
        if not stream.sending:
            self._close(stream_id, stream)

    def _fault(self, stream_id: int, fault: StreamFault, frames: list[Frame]) -> None:
        """End one stream."""
        stream = self._streams.pop(stream_id)
        self._past.abandon(stream_id)
        server = self.role is Role.SERVER
        frames.append(Reset(stream_id, Status.INVALID_ARGUMENT if server else Status.INTERNAL))
        frames.append(Reply(rst_stream(stream_id, fault.code)))
        self._intake.spare += stream.grown
        if server and not stream.spoken:
            self._guard.on_reset(stream.opened)


def _short_of(stream: Stream) -> StreamFault:
    return StreamFault(
        ErrorCode.PROTOCOL_ERROR, f"the body ends {stream.expected} bytes short of its length"
    )
