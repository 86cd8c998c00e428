"""Header fields: an ordered, immutable multi-map of text.

Names keep the spelling they arrived with; look-ups ignore case (RFC 9110 §5.1). Values are text in which every
byte of the wire has a place: HTTP fields are Latin-1, RPC fields UTF-8 with surrogate escapes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final


class Headers:
    """Ordered pairs of (name, value). Immutable: each change returns a new object, so identity means unmodified.

    Nobody's base but that of ``LazyHeaders``.
    """

    __slots__ = ("_index", "_parent", "_tail", "pairs")

    pairs: Final[tuple[tuple[str, str], ...]]
    """The fields in wire order, names as they were spelled."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self.pairs = tuple(pairs)
        self._index: dict[str, str] | None = None
        self._parent: Headers | None = None
        self._tail: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, mapping: Mapping[str, str]) -> Headers:
        """Build from a mapping, in its order."""
        return cls(mapping.items())

    def _joined(self) -> dict[str, str]:
        # Built on the first look-up only: most RPC headers are never looked at.
        index = self._index
        if index is None:
            index = {}
            for name, value in self.pairs:
                lower = name.lower()
                index[lower] = f"{index[lower]}, {value}" if lower in index else value
            self._index = index
        return index

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the value of ``name``; several fields of that name are joined with ``, `` (RFC 9110 §5.3)."""
        lower = name.lower()
        if self._index is None and self._parent is not None and not self._in_tail(lower):
            return self._parent.get(lower, default)
        return self._joined().get(lower, default)

    def _in_tail(self, lower: str) -> bool:
        return any(name.lower() == lower for name, _ in self._tail)

    def get_all(self, name: str) -> list[str]:
        """Return every value of ``name`` in order."""
        if name not in self:
            return []
        lower = name.lower()
        return [value for key, value in self.pairs if key.lower() == lower]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def add(self, name: str, value: str) -> Headers:
        """Return a copy with one more field at the end."""
        return self.extend(((name, value),))

    def extend(self, fields: tuple[tuple[str, str], ...]) -> Headers:
        """Return a copy with more fields at the end.

        What this one knows of its names serves the copy too: a filter that adds a field to every request does not
        make the next one index all the others again.
        """
        new = Headers.__new__(Headers)
        _set_pairs(new, self.pairs + fields)
        new._index = None
        parent = self._parent
        if parent is None or self._index is not None:
            new._parent = self
            new._tail = fields
        else:
            new._parent = parent
            new._tail = self._tail + fields
        return new

    def has_any(self, names: AbstractSet[str]) -> bool:
        """Whether one of ``names``, which are in lower case, occurs."""
        if self._index is None and self._parent is not None:
            for name, _ in self._tail:  # a loop: a generator costs more than the names
                if name.lower() in names:
                    return True
            return self._parent.has_any(names)
        return not self._joined().keys().isdisjoint(names)

    def set(self, name: str, value: str) -> Headers:
        """Return a copy in which ``name`` occurs once, with ``value``, where it first stood or else at the end."""
        if name not in self:
            return self.add(name, value)
        lower = name.lower()
        changed: list[tuple[str, str]] = []
        placed = False
        for pair in self.pairs:
            if pair[0].lower() != lower:
                changed.append(pair)
            elif not placed:
                changed.append((pair[0], value))
                placed = True
        return Headers(changed)

    def remove(self, *names: str) -> Headers:
        """Return a copy without these names; itself if none of them occurs."""
        lowers = {name.lower() for name in names}
        if not self.has_any(lowers):
            return self
        return Headers(pair for pair in self.pairs if pair[0].lower() not in lowers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self.pairs == other.pairs

    def __hash__(self) -> int:
        return hash(self.pairs)

    def __repr__(self) -> str:
        return f"Headers({list(self.pairs)!r})"


_set_pairs: Final = Headers.__dict__["pairs"].__set__


class LazyHeaders(Headers):
    """Headers that are found when somebody first looks at them: where finding them costs, and few look.

    A subclass says how, in ``find``. It calls ``__init__`` without arguments.
    """

    __slots__ = ()

    def __init__(self) -> None:
        self._index = None
        self._parent = None
        self._tail = ()

    def find(self) -> tuple[tuple[str, str], ...]:
        """Return the fields in wire order; called once. Total: what cannot be read is no fields."""
        raise NotImplementedError

    def put(self, pairs: tuple[tuple[str, str], ...]) -> None:
        """Note what ``find`` would return: for who has found it before anybody asked."""
        _set_pairs(self, pairs)

    def __getattr__(self, name: str) -> Any:  # Any: what a missing attribute has for a type
        # Python comes here only while the slot is empty.
        if name != "pairs":
            raise AttributeError(name)
        pairs = self.find()
        _set_pairs(self, pairs)
        return pairs


NO_HEADERS: Final = Headers()
"""The shared empty set of fields."""
