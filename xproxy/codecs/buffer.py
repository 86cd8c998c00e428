"""ByteBuffer: bytes of an unfinished message, for codec authors whose protocol is searched and not counted.

Remembers how far a search went, so that a peer that sends byte by byte costs no more than one that does not, and
holds a bound, so that a line that never ends is not kept.
"""

from __future__ import annotations


class TooLong(ValueError):
    """What was searched for does not come within its bound. The text names both."""


class ByteBuffer:
    """A growing buffer, consumed from its front. Appending and consuming cost what they move, and no more."""

    __slots__ = ("_bytes", "_marker", "_searched", "_start")

    # Consumed bytes are thrown away only when they are most of the buffer: otherwise each line of many in one read
    # would move all lines behind it.
    _COMPACT = 4096

    def __init__(self, data: bytes = b"") -> None:
        self._bytes = bytearray(data)
        self._start = 0
        self._searched = 0
        self._marker = b""

    def __len__(self) -> int:
        return len(self._bytes) - self._start

    def __bytes__(self) -> bytes:
        """Return what is held, unconsumed."""
        return bytes(memoryview(self._bytes)[self._start :])

    def feed(self, data: bytes) -> None:
        """Append bytes."""
        self._bytes += data

    def find(self, marker: bytes, limit: int) -> int:
        """Return where ``marker`` first ends, counted from the front, or -1 if it has not come yet.

        Raises TooLong if it cannot end within ``limit`` bytes. The same answer for every cut of the same bytes.
        """
        if not marker:
            raise ValueError("the marker is empty")
        if marker != self._marker:
            self._marker, self._searched = marker, 0
        # A marker may have begun in the bytes already looked at.
        first = self._start + max(0, self._searched - len(marker) + 1)
        found = self._bytes.find(marker, first, self._start + limit)
        if found >= 0:
            return found + len(marker) - self._start
        if len(self) >= limit:
            raise TooLong(f"{len(self)} bytes without an end, limit {limit}")
        self._searched = len(self)
        return -1

    def peek(self, count: int, at: int = 0) -> bytes:
        """Return up to ``count`` bytes, ``at`` bytes from the front, without consuming them."""
        first = self._start + at
        return bytes(memoryview(self._bytes)[first : first + count])

    def take(self, count: int) -> bytes:
        """Consume ``count`` bytes. Raises ValueError if there are not so many."""
        if not 0 <= count <= len(self):
            raise ValueError(f"{count} bytes asked for, {len(self)} held")
        taken = self.peek(count)
        self._start += count
        self._searched = 0
        self._marker = b""
        if self._start >= self._COMPACT and self._start * 2 >= len(self._bytes):
            del self._bytes[: self._start]
            self._start = 0
        return taken

    def take_until(self, marker: bytes, limit: int) -> bytes | None:
        """Consume all up to ``marker`` and the marker; return what was before it, or None if it has not come yet."""
        end = self.find(marker, limit)
        return self.take(end)[: -len(marker)] if end >= 0 else None
