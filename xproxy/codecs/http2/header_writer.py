"""Header blocks that leave, on a table of ours that the peer follows (RFC 7541, RFC 9113 §4.3)."""

from __future__ import annotations

from xproxy.codecs.http2.block import encode, size_updates
from xproxy.codecs.http2.limits import FIRST_TABLE_BYTES, Http2Limits
from xproxy.codecs.http2.memory import MOVES, Memory
from xproxy.codecs.http2.outgoing import Outgoing
from xproxy.codecs.http2.table import Field


class HeaderWriter:
    """Our table, and what the peer lets it be."""

    __slots__ = ("_memory", "_most_bytes", "moves", "resizes", "table")

    def __init__(self, own: Http2Limits, memory: Memory) -> None:
        self._memory = memory
        self._most_bytes = min(own.table_bytes, FIRST_TABLE_BYTES)
        self.table = memory.root()
        self.moves = 0
        """Changes of the table so far: the first ones are remembered."""
        self.resizes: list[int] = []
        """Bounds of the table that the next block announces."""

    def write(self, outgoing: Outgoing) -> bytes:
        """Return the block of a head, and move the table on."""
        table = self.table
        known = outgoing.blocks.get(table)
        if known is not None and not self.resizes:
            self.table = known[1]
            return known[0]
        updates = self._resized()
        table = self.table
        block, following = encode(outgoing.fields, table)
        if following is table:
            outgoing.remember(table, block, table)
        else:
            self.moves += 1
            if self.moves <= MOVES:
                outgoing.remember(table, block, following)
            self.table = following
        return updates + block

    def write_added(self, fields: list[Field]) -> bytes:
        """Return the block of fields that follow those of a head."""
        block, self.table = encode(fields, self.table)
        return block

    def _resized(self) -> bytes:
        """Apply the changes of our table that the peer asked for, and return their announcement."""
        sizes = self.resizes
        if not sizes:
            return b""
        table = self.table
        for size in sizes:
            table = table.resized(size)
        self.table = table if table.entries else self._memory.root(table.maximum)
        self.resizes = []
        return size_updates(sizes)

    def bound(self, maximum: int) -> None:
        """Note how large the peer lets our table be; the next block says so (RFC 9113 §4.3.1, RFC 7541 §4.2)."""
        wanted = min(maximum, self._most_bytes)
        sizes = self.resizes
        current = self.table.maximum
        if wanted == (sizes[-1] if sizes else current):
            return
        smallest = min([*sizes, wanted])
        # Only the smallest since the last block and the last one count.
        self.resizes = [wanted] if smallest == wanted else [smallest, wanted]
        if self.resizes == [current]:
            self.resizes = []
