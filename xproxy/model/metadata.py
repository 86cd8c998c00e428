"""Typed keys for what filters tell one another about a request."""

from __future__ import annotations

import weakref
from typing import Any, Final, Generic, TypeVar, cast

import attrs

T = TypeVar("T")


@attrs.frozen(eq=False)
class Key(Generic[T]):
    """A key of ``request.metadata``. Two keys are the same only if they are one object."""

    name: str
    """Shown in logs: ``<distribution>.<what>``. By it an entry is found again in another process."""

    def __attrs_post_init__(self) -> None:
        _namesakes.setdefault(self.name, weakref.WeakSet()).add(self)


_namesakes: Final[dict[str, weakref.WeakSet[Key[Any]]]] = {}  # Any: keys of all types
# A few names, as keys are made when modules are imported.


def key_named(name: str) -> Key[Any] | None:  # Any: likewise
    """Return the key of this name; None if there is none, or more than one."""
    found = list(_namesakes.get(name, ()))
    return found[0] if len(found) == 1 else None


class Metadata(dict[Any, Any]):  # Any: a key's type parameter says what its value is
    """What filters have written down about one request. At most ``LIMIT`` entries."""

    __slots__ = ()
    LIMIT = 256

    def __getitem__(self, key: Key[T]) -> T:
        return cast("T", super().__getitem__(key))

    def __setitem__(self, key: Key[T], value: T) -> None:
        if len(self) >= self.LIMIT and key not in self:
            raise OverflowError(f"more than {self.LIMIT} metadata entries on one request")
        super().__setitem__(key, value)

    def get(self, key: Key[T], default: T | None = None) -> T | None:
        return cast("T | None", super().get(key, default))
