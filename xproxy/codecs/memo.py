"""Bounded memories for pure functions whose arguments recur.

A keep-alive client sends the same head again and again. What a codec computed for it once (it is frozen, so it may be
shared) need not be computed twice. Nothing can be seen of a memory but the time it saves: when it is full it is
emptied.

Of real traffic most heads come once. To hold those costs more than it can save: their memory is not used again at
once, while it is in the processor's cache, and the garbage collector looks through all that lives. So a memory that
has been full has a ``Door``.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable
from typing import Any, Final, Generic, TypeVar

V = TypeVar("V")

_MARKS: Final = 4
"""Keys whose coming is noted, for each that a memory holds."""


class Door:
    """Which keys may enter a memory: any, until it has been full once; from then on those that come again."""

    __slots__ = ("_limit", "_seen")

    def __init__(self, limit: int) -> None:
        """``limit``: entries of the memory at most."""
        self._limit = limit
        self._seen: set[int] | None = None  # hashes, as nothing hangs on them

    def admits(self, memory: dict[Any, Any], key: Hashable) -> bool:
        """Whether ``memory``, which lacks ``key``, is to have it; there is room for it then."""
        full = len(memory) >= self._limit
        seen = self._seen
        if seen is None:
            if not full:
                return True
            memory.clear()
            seen = self._seen = set()
        mark = hash(key)
        if mark in seen:
            if full:
                memory.clear()
            return True
        if len(seen) >= self._limit * _MARKS:
            seen.clear()
        seen.add(mark)
        return False


class IdentityMemo(Generic[V]):
    """Remembers a value for an object, by identity. Holds the object, so that its id cannot be used again."""

    __slots__ = ("_entries", "_limit")

    def __init__(self, limit: int = 512) -> None:
        self._entries: dict[int, tuple[object, V]] = {}
        self._limit = limit

    def get(self, key: object) -> V | None:
        """Return what was put for this very object."""
        entry = self._entries.get(id(key))
        return entry[1] if entry is not None else None

    def put(self, key: object, value: V) -> V:
        """Remember ``value`` and return it."""
        if len(self._entries) >= self._limit:
            self._entries.clear()
        self._entries[id(key)] = (key, value)
        return value

    def __len__(self) -> int:
        return len(self._entries)


class WeakMemo(IdentityMemo[V]):
    """Remembers a value for an object, by identity, for as long as somebody else holds the object."""

    __slots__ = ()

    def put(self, key: object, value: V) -> V:
        """Remember ``value`` and return it. A value that holds its key is kept until the memory is full."""
        entries = self._entries
        if len(entries) >= self._limit:
            entries.clear()
        number = id(key)
        # The entry goes before the id can come to mean another object. One that was emptied or replaced has no
        # reference left that could take its successor away.
        entries[number] = (weakref.ref(key, lambda _: entries.pop(number, None)), value)
        return value


class HeadMemo(WeakMemo[V]):
    """Remembers a value for a head, if that ``recurs``: any other is made for one message, and does not come again.

    Holds no head: one that its codec forgets is forgotten here too.
    """

    __slots__ = ()

    def put(self, key: object, value: V) -> V:
        """Return ``value``; remembered only for a head that is given out again."""
        # Asked of every head that is new: most of real traffic.
        if getattr(key, "recurs", False):
            return super().put(key, value)
        return value
