"""Choosing by server name: exact before wildcard before the first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class ServerNames(Generic[T]):
    """Values by the names they serve. ``*.example.com`` is one label more, no less (RFC 6125 §6.4.3)."""

    def __init__(self) -> None:
        self._exact: dict[str, T] = {}
        self._wild: dict[str, T] = {}
        self._first: list[T] = []

    def add(self, names: Iterable[str], value: T) -> None:
        """Let ``value`` serve ``names``; what was added earlier keeps a name it has."""
        self._first.append(value)
        for name in names:
            name = name.lower().removesuffix(".")
            if name.startswith("*."):
                self._wild.setdefault(name[2:], value)
            else:
                self._exact.setdefault(name, value)

    def find(self, name: str) -> T | None:
        """Return the value for ``name``, which is in lower case; None if there is none."""
        found = self._exact.get(name)
        if found is not None:
            return found
        label, _, rest = name.partition(".")
        return self._wild.get(rest) if label else None

    @property
    def first(self) -> T:
        """The value added first."""
        return self._first[0]
