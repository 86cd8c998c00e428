"""What arrives, cut into frames (RFC 9113 §4), in the order that a connection begins with (§3.4).

Rules of this file:

* One loop over all frames of a read; ``buffer`` holds only a frame that is not whole. Its length is checked before.
* Every frame that is whole gives the driver at least one, if only an empty Reply: no frames at all means that
  something is half here.
* Nothing is known here of what a frame means, beyond where a header block begins and ends.
"""

from __future__ import annotations

from typing import Final, Protocol

from xproxy.codecs.http2.faults import ConnectionFault, StreamFault, protocol_error
from xproxy.codecs.http2.header_reader import HeaderReader
from xproxy.codecs.http2.limits import Http2Limits
from xproxy.codecs.http2.state import Stage
from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.wire import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADER,
    HEADER_BYTES,
    HEADERS,
    PREFACE,
    STREAM_BITS,
    WITH_PRIORITY,
    unpadded,
)
from xproxy.codecs.runs import TINY
from xproxy.model.frames import Frame, Reply

NOTHING: Final = Reply(b"")
"""A frame came whole, and there is nothing to be done about it."""
_MAGIC: Final = Stage.MAGIC
_RUNNING: Final = Stage.RUNNING
_PLAIN_HEADERS: Final = frozenset({END_HEADERS, END_HEADERS | END_STREAM})
_HEAD_KINDS: Final = frozenset({HEADERS, CONTINUATION})
_HEAD_EXTRA: Final = 1 + 255 + 5
"""Bytes in HEADERS beside the block: pad length, padding, priority."""


class DataTaker(Protocol):
    """Who takes bodies. Both may raise ConnectionFault and StreamFault."""

    def take(self, flags: int, stream_id: int, payload: bytes, frames: list[Frame]) -> None:
        """Take DATA."""
        ...

    def take_run(
        self, data: bytes, position: int, size: int, stream_id: int, frames: list[Frame]
    ) -> int:
        """Take the DATA frames at ``position`` that are like the one before; return where they end."""
        ...


class ControlTaker(Protocol):
    """Who takes what is neither HEADERS nor DATA. Both may raise ConnectionFault, the first one StreamFault."""

    def take(
        self, kind: int, flags: int, stream_id: int, payload: bytes, frames: list[Frame]
    ) -> None:
        """Take a frame."""
        ...

    def take_first(
        self, kind: int, flags: int, stream_id: int, payload: bytes, frames: list[Frame]
    ) -> None:
        """Take the first frame of the connection, whatever it is."""
        ...


class HeadTaker(Protocol):
    """Who takes messages' heads and trailers, and ends streams."""

    def on_headers(self, stream_id: int, block: bytes, end: bool, frames: list[Frame]) -> None:
        """Take a whole header block. Raises ConnectionFault and StreamFault."""
        ...

    def on_fault(self, stream_id: int, fault: StreamFault, frames: list[Frame]) -> None:
        """End a stream on which there was a fault. Raises ConnectionFault."""
        ...


class Reader:
    """The bytes of a frame that is not whole, and what is awaited."""

    __slots__ = ("_bodies", "_control", "_headers", "_longest", "buffer", "needed", "stage")

    def __init__(
        self,
        own: Http2Limits,
        stage: Stage,
        headers: HeaderReader,
        bodies: DataTaker,
        control: ControlTaker,
    ) -> None:
        self._longest: int = own.frame_bytes
        self._headers = headers
        self._bodies = bodies
        self._control = control
        self.stage = stage
        self.buffer: bytearray | None = None
        """Bytes of a frame, or of the preface, that is not whole."""
        self.needed = 0
        """Bytes of the buffer before which there is no use in looking at it."""

    def stop(self) -> None:
        """Read nothing more, and keep nothing for it."""
        self.stage = Stage.ENDED
        self.buffer = None
        self._headers.block = None

    @property
    def unfinished(self) -> bool:
        """A frame, or a header block, is not whole."""
        return self.buffer is not None or self._headers.block is not None

    def read(self, data: bytes, heads: HeadTaker, frames: list[Frame]) -> bool:
        """Have each frame taken that is whole now; return whether there was any use in looking.

        Raises ConnectionFault, after good frames. ``heads`` is not kept: it is who keeps this.
        """
        buffer = self.buffer
        if buffer is not None:
            buffer += data
            if len(buffer) < self.needed:
                return False
            data = bytes(buffer)
        position = 0
        if self.stage is _MAGIC:
            position = self._preface(data, frames)
            if not position:
                self.buffer = bytearray(data) if data else None
                return True
        size = len(data)
        longest = self._longest
        headers = self._headers
        bodies = self._bodies
        most_head = headers.most_bytes + _HEAD_EXTRA
        unpack = HEADER.unpack_from
        self.needed = HEADER_BYTES
        while size - position >= HEADER_BYTES:
            high, low, kind, flags, stream_id = unpack(data, position)
            length = high << 16 | low
            if length > longest:
                raise ConnectionFault(
                    ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes, limit {longest}"
                )
            if (length > most_head or headers.block is not None) and kind in _HEAD_KINDS:
                headers.check(length)
            end = position + HEADER_BYTES + length
            if end > size:
                self.needed = end - position
                break
            payload = data[position + HEADER_BYTES : end]
            position = end
            stream_id &= STREAM_BITS
            try:
                if self.stage is not _RUNNING or headers.block is not None:
                    self._out_of_line(kind, flags, stream_id, payload, heads, frames)
                elif kind == HEADERS:
                    if flags in _PLAIN_HEADERS and stream_id:
                        heads.on_headers(stream_id, payload, bool(flags & END_STREAM), frames)
                    else:
                        self._padded(flags, stream_id, payload, heads, frames)
                elif kind == DATA:
                    bodies.take(flags, stream_id, payload, frames)
                    if length <= TINY and not flags:
                        position = bodies.take_run(data, position, length, stream_id, frames)
                else:
                    self._control.take(kind, flags, stream_id, payload, frames)
            except StreamFault as fault:
                heads.on_fault(stream_id, fault, frames)
        self.buffer = bytearray(data[position:]) if position < size else None
        return True

    def _preface(self, data: bytes, frames: list[Frame]) -> int:
        """Look for the client's preface; return where it ends, 0 if it is not whole. Raises ConnectionFault."""
        if data[: len(PREFACE)] != PREFACE[: len(data)]:
            raise protocol_error("not the connection preface of HTTP/2")
        if len(data) < len(PREFACE):
            self.needed = 0
            return 0
        self.stage = Stage.SETTINGS
        frames.append(NOTHING)
        return len(PREFACE)

    def _out_of_line(
        self,
        kind: int,
        flags: int,
        stream_id: int,
        payload: bytes,
        heads: HeadTaker,
        frames: list[Frame],
    ) -> None:
        """Take a frame where only one kind is right."""
        headers = self._headers
        if headers.block is None:
            self._control.take_first(kind, flags, stream_id, payload, frames)
            self.stage = _RUNNING
            return
        if kind != CONTINUATION or stream_id != headers.stream_id:
            raise protocol_error("a header block that is interrupted by another frame")
        block = headers.go_on(flags, payload)
        if block is not None:
            heads.on_headers(stream_id, block, headers.end, frames)

    def _padded(
        self, flags: int, stream_id: int, payload: bytes, heads: HeadTaker, frames: list[Frame]
    ) -> None:
        """Take HEADERS with something beside a whole block."""
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
            heads.on_headers(stream_id, fragment, bool(flags & END_STREAM), frames)
        else:
            self._headers.begin(stream_id, flags, fragment)
