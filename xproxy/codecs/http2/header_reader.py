"""Header blocks that arrive: cut into frames by their sender, and read on the table that both ends share.

Rules of this file:

* A header block is decompressed whatever becomes of its stream: the tables must stay the same (RFC 9113 §4.3). So one
  that is too long is read to its end, within a bound, and only its stream is refused.
* What a block may be at most is checked before a byte of it is kept.
"""

from __future__ import annotations

from typing import TypeVar

from xproxy.codecs.http2.block import decode
from xproxy.codecs.http2.faults import ConnectionFault, Oversized
from xproxy.codecs.http2.guard import Guard
from xproxy.codecs.http2.limits import FIRST_TABLE_BYTES, HEADS_READ, Http2Limits
from xproxy.codecs.http2.memory import MOVES, Blocks, Memory, Read
from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.table import Table
from xproxy.codecs.http2.wire import END_HEADERS, END_STREAM
from xproxy.model.limits import Limits

P = TypeVar("P")


class HeaderReader:
    """The header block under way, and the peer's table."""

    __slots__ = (
        "_guard",
        "_max_head_bytes",
        "_most_frames",
        "_own_bytes",
        "allowed",
        "block",
        "end",
        "most_bytes",
        "moves",
        "pieces",
        "stream_id",
        "table",
    )

    def __init__(self, limits: Limits, own: Http2Limits, memory: Memory, guard: Guard) -> None:
        self._guard = guard
        self._max_head_bytes = limits.max_head_bytes
        self._own_bytes: int = own.table_bytes
        self.most_bytes = limits.max_head_bytes * HEADS_READ
        """Bytes of the longest block that is read to its end."""
        self._most_frames = own.max_continuations + self.most_bytes // own.frame_bytes
        self.block: bytearray | None = None
        """One that is not whole."""
        self.stream_id = 0
        """Its stream."""
        self.end = False
        """It ends its stream's message."""
        self.pieces = 0
        """CONTINUATION frames of it."""
        self.table = memory.root()
        self.moves = 0
        """Changes of the table so far, as far as they are counted: the first ones are remembered."""
        self.allowed = max(self._own_bytes, FIRST_TABLE_BYTES)
        """Bytes that the peer may make its table. What we announced holds once it was acknowledged; before that the
        peer may use either."""

    # -- frames -------------------------------------------------------------------------------------------------

    def check(self, length: int) -> None:
        """Raise ConnectionFault for a block that its next frame would make too long to be read."""
        size = length if self.block is None else length + len(self.block)
        if size > self.most_bytes:
            # The CONTINUATION flood (CVE-2024-27316): a block that never ends.
            raise ConnectionFault(
                ErrorCode.ENHANCE_YOUR_CALM,
                f"a header block of {size} bytes, limit {self.most_bytes}",
                "max_head_bytes",
            )

    def begin(self, stream_id: int, flags: int, fragment: bytes) -> None:
        """Keep a block that CONTINUATION frames complete. Raises ConnectionFault."""
        if not fragment:
            self._guard.on_empty()
        self.block = bytearray(fragment)
        self.stream_id = stream_id
        self.end = bool(flags & END_STREAM)
        self.pieces = 0

    def resume(self, stream_id: int, end: bool, pieces: int, data: bytes) -> None:
        """Go on with a block that another one has begun."""
        self.block = bytearray(data)
        self.stream_id = stream_id
        self.end = end
        self.pieces = pieces

    def go_on(self, flags: int, fragment: bytes) -> bytes | None:
        """Take a CONTINUATION frame; return the block if it is whole now. Raises ConnectionFault."""
        block = self.block
        assert block is not None
        self.pieces += 1
        if not fragment:
            self._guard.on_empty()
        many = self.pieces > self._most_frames
        if many or len(block) + len(fragment) > self.most_bytes:
            # The CONTINUATION flood (CVE-2024-27316): a block that never ends.
            raise ConnectionFault(
                ErrorCode.ENHANCE_YOUR_CALM,
                f"a header block above {self.most_bytes} bytes, or {self._most_frames} CONTINUATION frames",
                "max_continuations" if many else "max_head_bytes",
            )
        block += fragment
        if not flags & END_HEADERS:
            return None
        self.block = None
        return bytes(block)

    # -- blocks -------------------------------------------------------------------------------------------------

    def read(self, blocks: Blocks[P], block: bytes) -> Read[P]:
        """Read a block that is not among ``blocks.steady``, and move the table on. Raises ConnectionFault."""
        table = self.table
        read = blocks.read(
            table, block, self.allowed, self._max_head_bytes, young=self.moves < MOVES
        )
        if read.table is not table:
            self.moves += 1
            self.table = read.table
        return read

    def skip(self, block: bytes) -> None:
        """Read a block for its effect on the table alone. Raises ConnectionFault."""
        try:
            _, self.table = decode(block, self.table, self.allowed, self._max_head_bytes)
        except Oversized as oversized:
            self.table = oversized.table

    def acknowledged(self) -> None:
        """The peer has taken our settings, and with them the bound of its table."""
        self.allowed = self._own_bytes
        table = self.table
        if table.maximum > self._own_bytes:
            # A table of its own, that no block is remembered for: the next one must begin with a size update.
            self.table = Table(table.entries, table.maximum)
