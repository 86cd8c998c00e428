"""Bounded memories for pure functions whose arguments recur.

A keep-alive client sends the same head again and again. What a codec computed for it once (it is frozen, so it may be
shared) need not be computed twice. Nothing can be seen of a memory but the time it saves: when it is full it is
emptied.
"""

from __future__ import annotations

from typing import Generic, TypeVar

V = TypeVar("V")


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
