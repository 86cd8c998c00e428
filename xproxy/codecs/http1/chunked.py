"""Chunked bodies: bytes → pieces of the body, then trailers (RFC 9112 §7.1).

Rules of this file: the size line is matched before it is converted; extensions are counted and dropped; exactly CRLF
follows the data of a chunk. Only a part of a line ever waits in the codec's buffer.
"""

from __future__ import annotations

import enum
import re
from functools import lru_cache
from typing import Final

from xproxy.codecs.http1.block import Refused, find_end
from xproxy.codecs.http1.head import parse_trailers
from xproxy.codecs.http_values import MAX_LENGTH
from xproxy.codecs.runs import BLOCK, TINY, joined, run_length
from xproxy.model.headers import NO_HEADERS
from xproxy.model.limits import Limits

SIZE_DIGITS: Final = 16
_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})(;[^\x00-\x08\x0a-\x1f\x7f]*)?")


@lru_cache(maxsize=256)
def _plain_size(line: bytes) -> int:
    """Return the size in a line of at most 16 bytes that holds nothing else, else -1. Bodies repeat their sizes."""
    match = _SIZE_LINE.fullmatch(line)
    if match is None or match[2] is not None:
        return -1
    size = int(match[1], 16)
    return size if size <= MAX_LENGTH else -1


_TINY_LINES: Final = {
    b"%b\r\n" % digits: int(digits, 16)
    for size in range(1, TINY)
    for digits in (b"%x" % size, b"%X" % size)
}
"""By a whole size line of one digit."""


def _tiny(source: bytes, position: int, pieces: list[bytes]) -> int:
    """Take whole chunks of few bytes, as long as there are any; return where they end.

    A client may cut its body into bytes: this is what each of them costs.
    """
    take = pieces.append
    left = 0  # pieces before it is worth looking for a run again
    while True:
        line = source[position : position + 3]
        size = _TINY_LINES.get(line)
        if size is None:
            return position
        if not left:
            count = run_length(source, position, line, size, b"\r\n")
            if count:
                take(joined(source, position, count, 3, size, 2))
                position += count * (size + 5)
                continue
            left = BLOCK
        left -= 1
        stop = position + 3 + size
        if source[stop : stop + 2] != b"\r\n":
            return position
        take(source[position + 3 : stop])
        position = stop + 2


class Phase(enum.Enum):
    """What the next byte of a chunked body is part of."""

    SIZE = "size"
    DATA = "data"
    DATA_END = "data-end"
    """The CRLF after a chunk's data."""
    TRAILERS = "trailers"
    """From the CRLF of the last chunk's size line on, so that the section ends in an empty line in any case."""
    DONE = "done"


# See ``state.READING_IDLE`` and its like on why these have names of their own.
_AT_DATA: Final = Phase.DATA
_AT_DATA_END: Final = Phase.DATA_END
_AT_DONE: Final = Phase.DONE
_AT_SIZE: Final = Phase.SIZE
_AT_TRAILERS: Final = Phase.TRAILERS


class ChunkReader:
    """Reads one chunked body."""

    __slots__ = ("_limits", "_searched", "extensions", "left", "phase", "trailers")

    def __init__(
        self, limits: Limits, phase: Phase = _AT_SIZE, left: int = 0, extensions: int = 0
    ) -> None:
        self._limits = limits
        self._searched = 0
        self.phase = phase
        self.left = left
        """Bytes of the current chunk's data still to come."""
        self.extensions = extensions
        """Bytes of chunk extensions so far in this message."""
        self.trailers = NO_HEADERS
        """With DONE: the trailer fields."""

    def line_limit(self) -> int:
        """Longest size line without its CRLF, in bytes."""
        return SIZE_DIGITS + self._limits.max_chunk_extension_bytes

    def read(self, source: bytes | bytearray, position: int, pieces: list[bytes]) -> int:
        """Append body bytes to ``pieces``; return up to where ``source`` was used up. Raises Refused."""
        size = len(source)
        while True:
            if self.phase is _AT_DATA:
                stop = position + self.left
                if stop > size:
                    if position < size:
                        pieces.append(bytes(source[position:]))
                        self.left = stop - size
                    return size
                pieces.append(bytes(source[position:stop]))
                position = stop
                self.left = 0
                self.phase = _AT_DATA_END
            elif self.phase is _AT_DATA_END:
                if source[position : position + 2] != b"\r\n":
                    if position == size or (position + 1 == size and source[position] == 0x0D):
                        return position
                    raise Refused(400, "chunk data is not followed by CRLF")
                position += 2
                self.phase = _AT_SIZE
            elif self.phase is _AT_SIZE:
                end = source.find(b"\r\n", position, position + self.line_limit() + 2)
                if end < 0:
                    if size - position >= self.line_limit() + 2:
                        raise Refused(400, f"chunk size line is above {self.line_limit()} bytes")
                    return position
                line = bytes(source[position:end])
                self.left = _plain_size(line) if len(line) <= SIZE_DIGITS else -1
                if self.left < 0:
                    self.left = self._size(line)
                if self.left:
                    position = end + 2
                    stop = position + self.left
                    if source[stop : stop + 2] == b"\r\n":
                        pieces.append(bytes(source[position:stop]))
                        if self.left <= TINY:
                            if type(source) is not bytes:
                                source = bytes(source)
                            position = _tiny(source, stop + 2, pieces)
                        else:
                            position = stop + 2
                        self.left = 0
                    else:
                        self.phase = _AT_DATA
                else:
                    self.phase = _AT_TRAILERS
                    position = end
            elif self.phase is _AT_TRAILERS:
                end = find_end(source, position, self._searched, self._limits.max_head_bytes)
                if end < 0:
                    self._searched = size - position
                    return position
                if end - position > 4:
                    self.trailers = parse_trailers(bytes(source[position + 2 : end]), self._limits)
                self.phase = _AT_DONE
                return end
            else:
                return position

    def _size(self, line: bytes) -> int:
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise Refused(400, "malformed chunk size line")
        digits, extension = match.groups()
        if extension is not None:
            length = len(extension)
            self.extensions += length
            if length > self._limits.max_chunk_extension_bytes:
                raise Refused(
                    400, f"chunk extension is above {self._limits.max_chunk_extension_bytes} bytes"
                )
            if self.extensions > self._limits.max_chunk_extensions_bytes:
                raise Refused(
                    400,
                    f"chunk extensions are above {self._limits.max_chunk_extensions_bytes} bytes",
                )
        size = int(digits, 16)
        if size > MAX_LENGTH:
            raise Refused(400, f"chunk is above {MAX_LENGTH} bytes")
        return size
