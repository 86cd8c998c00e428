"""HPACK's tables as values (RFC 7541 §2.3): a table never changes, a header block leads from one table to the next.

That makes reading and writing a block pure functions of (table, bytes) and (table, fields), which may be remembered,
for all connections together: those whose tables came about in the same way share one. It also makes a table cheap to
hold and trivial to write down. Fields are text in Latin-1, where each character stands for a byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from hpack.table import HeaderTable

Field: TypeAlias = tuple[str, str]

ENTRY_BYTES: Final = 32
"""What an entry counts beyond its name and value (RFC 7541 §4.1)."""

STATIC: Final[tuple[Field, ...]] = tuple(
    (name.decode("ascii"), value.decode("ascii")) for name, value in HeaderTable.STATIC_TABLE
)
"""RFC 7541 appendix A; index 1 is its first entry."""

STATIC_FIELDS: Final[dict[Field, int]] = {
    pair: index for index, pair in reversed(list(enumerate(STATIC, 1)))
}
"""Index of a whole field."""

STATIC_NAMES: Final[dict[str, int]] = {
    pair[0]: index for index, pair in reversed(list(enumerate(STATIC, 1)))
}
"""Lowest index of a name."""

FIRST_DYNAMIC: Final = len(STATIC) + 1


class Secret(str):
    """A value that must never enter a table, neither ours nor that of anybody behind us (RFC 7541 §6.2.3, §7.1.3)."""

    __slots__ = ()


def size_of(field: Field) -> int:
    """Return what a field counts (RFC 7541 §4.1), in bytes."""
    return len(field[0]) + len(field[1]) + ENTRY_BYTES


class Table:
    """A dynamic table. Immutable; compared by identity."""

    __slots__ = ("__weakref__", "_fields", "_names", "entries", "maximum", "size")

    def __init__(self, entries: Sequence[Field], maximum: int, size: int = -1) -> None:
        """Hold ``entries``, which fit within ``maximum``; ``size`` is what they count, if that is known."""
        self.entries: Final = tuple(entries)
        """Newest first."""
        self.maximum: Final = maximum
        """Bytes it may hold."""
        self.size: Final = size if size >= 0 else sum(map(size_of, self.entries))
        """Bytes it holds."""
        self._fields: dict[Field, int] | None = None
        self._names: dict[str, int] | None = None

    @property
    def fields(self) -> dict[Field, int]:
        """Where each field stands, newest 0. Made when a writer first asks."""
        fields = self._fields
        if fields is None:
            fields = {}
            for place, pair in enumerate(self.entries):
                fields.setdefault(pair, place)
            self._fields = fields
        return fields

    @property
    def names(self) -> dict[str, int]:
        """Where each name stands, newest 0."""
        names = self._names
        if names is None:
            names = {}
            for place, pair in enumerate(self.entries):
                names.setdefault(pair[0], place)
            self._names = names
        return names

    def resized(self, maximum: int) -> Table:
        """Return the table after a size update: what does not fit is evicted, oldest first (RFC 7541 §4.3)."""
        change = Change(self)
        change.resize(maximum)
        return change.result()


class Change:
    """The table of a block under way: additions and evictions, then the next table."""

    __slots__ = ("_base", "added", "entries", "maximum", "size")

    def __init__(self, base: Table) -> None:
        self._base = base
        self.entries: list[Field] = list(reversed(base.entries))
        """Oldest first, so that the newest are cheap to add."""
        self.maximum = base.maximum
        self.size = base.size
        self.added = 0
        """Entries added so far."""

    def add(self, field: Field) -> None:
        """Add an entry; one that is too large empties the table (RFC 7541 §4.4)."""
        size = size_of(field)
        self._evict(self.maximum - size)
        if size <= self.maximum:
            self.entries.append(field)
            self.size += size
        self.added += 1

    def resize(self, maximum: int) -> None:
        """Change the bound."""
        self.maximum = maximum
        self._evict(maximum)

    def _evict(self, room: int) -> None:
        entries = self.entries
        gone = 0
        while self.size > room and gone < len(entries):
            self.size -= size_of(entries[gone])
            gone += 1
        if gone:
            del entries[:gone]

    def get(self, place: int) -> Field | None:
        """Return the entry at ``place``, newest 0."""
        return self.entries[-1 - place] if place < len(self.entries) else None

    def result(self) -> Table:
        """Return the table as it is now.

        A peer that adds the same fields with every message (nginx does) soon adds what it evicts: then the table is
        the one it was, and the block one that can be remembered for good.
        """
        base = self._base
        entries = tuple(self.entries[::-1])
        if entries == base.entries and self.maximum == base.maximum:
            return base
        return Table(entries, self.maximum, self.size)
