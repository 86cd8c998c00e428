"""What both roles of Thrift share: messages out of any chunks, and how a connection ends.

Rules of this file:

* ``_held`` holds the bytes of one unfinished message. A message with a frame is looked at again when all of it is
  there; one without is walked, each byte once, by the walker that is kept with it.
* A message is given whole: ``Head(data=…, end=True)``, the struct as its data.
"""

from __future__ import annotations

from collections.abc import Sequence

from xproxy.codecs.message_wire import Malformed
from xproxy.codecs.thrift import wire
from xproxy.codecs.thrift.dialect import Dialect
from xproxy.codecs.thrift.encoding import HeadParts, Walker
from xproxy.codecs.thrift.message import CODEC
from xproxy.codecs.thrift.wire import Message
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Frame, Head, Reset, Violation
from xproxy.model.limits import Limits


class ThriftCodec:
    """One connection; :class:`ServerCodec` and :class:`ClientCodec` say what comes and goes."""

    __slots__ = ("_held", "_limits", "_need", "_over", "_tail", "_under_way", "_walker")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held = bytearray()
        self._need = 0
        self._walker: Walker | None = None
        self._under_way: tuple[Dialect, HeadParts] | None = None  # what is walked
        self._tail = 0
        self._over = False

    # ── bytes in ──

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        """Take bytes; many messages in them are one loop, and what is left over is copied once."""
        if data is None:
            return self._end()
        if self._over:
            return ()
        frames: list[Frame] = []
        held = self._held
        try:
            if held:
                held += data
                if len(held) < self._need:
                    return ()
                if self._walker is not None and not self._walked(held, 0, len(held)):
                    return ()
                data = bytes(held)
                held.clear()
            at = self._read(data, frames)
        except Malformed as exc:
            self._stop()
            frames.append(Violation(f"{CODEC}: {exc}", self._farewell(exc)))
        else:
            if at < len(data):
                held += memoryview(data)[at:]
        return frames

    def _read(self, buffer: bytes, frames: list[Frame]) -> int:
        """Append a frame for every whole message; return where the first unfinished one begins. Raises Malformed."""
        raise NotImplementedError

    def _farewell(self, crime: Malformed) -> bytes:
        """Return what the peer is told before the connection ends."""
        return b""

    def _unframed(self, dialect: Dialect, buffer: bytes, at: int, size: int) -> Message | int:
        """Read a message that must be walked; how many bytes it takes to go on if it is not all there."""
        walker = self._walker
        if walker is None:
            parts = dialect.encoding.read_head(buffer, at, size)
            if isinstance(parts, int):
                return parts
            limit = self._limits.max_message_bytes
            walker = self._walker = dialect.encoding.walker(parts[3] - at, limit)
            self._tail = len(dialect.encoding.tail)
            self._under_way = dialect, parts
            if not self._walked(buffer, at, size):
                return self._need
        self._walker = None
        end = at + walker.pos + self._tail
        return wire.read_payload(dialect, buffer, at, at, end, self._limits)

    def _walked(self, buffer: bytes | bytearray, at: int, size: int) -> bool:
        """Go on with the message under way; True: all of it is there."""
        walker = self._walker
        assert walker is not None
        try:
            done = walker.walk(buffer, at, size)
        except Malformed as exc:
            assert self._under_way is not None
            raise wire.refused(str(exc), *self._under_way) from exc
        self._need = walker.need + self._tail
        return done and at + self._need <= size

    def _end(self) -> Sequence[Frame]:
        if self._over:
            return ()
        held = self._unfinished_bytes()
        self._stop()
        return (Violation(f"{CODEC}: input ended {held} bytes into a message"),) if held else ()

    def _unfinished_bytes(self) -> int:
        return len(self._held)

    def _stop(self) -> None:
        self._over = True
        self._held.clear()
        self._walker = None

    # ── bytes out ──

    def send(self, frame: Frame) -> bytes:
        """Return the bytes for ``frame``: a whole message, or those of its turn. Raises LocalProtocolError."""
        if type(frame) is Head:
            if not frame.end or frame.interim:
                raise LocalProtocolError("Thrift sends messages whole")
            return self._send(frame)
        if isinstance(frame, Reset):
            return self._reset(frame)
        raise LocalProtocolError(f"Thrift cannot send a {type(frame).__name__} by itself")

    def _send(self, frame: Head) -> bytes:
        raise NotImplementedError

    def _reset(self, frame: Reset) -> bytes:
        raise NotImplementedError
