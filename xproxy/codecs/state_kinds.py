"""What a value of a written state may be: its type, its range, its size.

A ``Kind`` reads what somebody wrote and believes nothing of it. What it raises is a ValueError that goes on from the
name of the field: ``is 7, not 0 … 3``.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

import attrs

T = TypeVar("T")
K = TypeVar("K")
E = TypeVar("E", bound=enum.Enum)


@attrs.frozen
class Kind(Generic[T]):
    """How a value is written, and read again."""

    read: Callable[[object], T]
    """Return the value that was written so. Raises ValueError for anything else; its text begins with a verb."""
    write: Callable[[T], object] | None = None
    """Return bool, int (64 bits), str, bytes, or list or dict of these; None: the value is such a thing."""


def _read_flag(found: object) -> bool:
    if type(found) is not bool:
        raise ValueError("is no bool")
    return found


FLAG: Final = Kind(_read_flag)
"""A bool."""


def number(lowest: int, highest: int) -> Kind[int]:
    """Return the kind of ints from ``lowest`` to ``highest``, both included; between -2**63 and 2**64 - 1."""

    def read(found: object) -> int:
        if type(found) is not int:  # a bool is none
            raise ValueError("is no number")
        if not lowest <= found <= highest:
            raise ValueError(f"is {found}, not {lowest} … {highest}")
        return found

    return Kind(read)


def amount(most: float) -> Kind[float]:
    """Return the kind of finite floats from 0 to ``most``, both included: durations in seconds, shares. No ints."""

    def read(found: object) -> float:
        if type(found) is not float or not math.isfinite(found):
            raise ValueError("is no finite float")
        if not 0 <= found <= most:
            raise ValueError(f"is {found:g}, not 0 … {most:g}")
        return found

    return Kind(read)


def octets(most: int) -> Kind[bytes]:
    """Return the kind of at most so many bytes."""

    def read(found: object) -> bytes:
        if type(found) is not bytes:
            raise ValueError("is no bytes")
        if len(found) > most:
            raise ValueError(f"is {len(found)} bytes, limit {most}")
        return found

    return Kind(read)


def text(most: int) -> Kind[str]:
    """Return the kind of texts of at most so many characters."""

    def read(found: object) -> str:
        if type(found) is not str:
            raise ValueError("is no text")
        if len(found) > most:
            raise ValueError(f"is {len(found)} characters, limit {most}")
        return found

    return Kind(read)


def choice(members: Iterable[E]) -> Kind[E]:
    """Return the kind of these members of an enum, written by their value: a whole enum, or some of it."""
    by_value: dict[object, E] = {member.value: member for member in members}
    kinds = {type(value) for value in by_value}

    def read(found: object) -> E:
        if type(found) not in kinds or found not in by_value:
            raise ValueError(f"is none of {', '.join(map(repr, by_value))}")
        return by_value[found]

    return Kind(read, _value_of)


def _value_of(member: enum.Enum) -> object:
    value: object = member.value
    return value


def sequence(of: Kind[T], most: int) -> Kind[list[T]]:
    """Return the kind of lists of at most so many values of one kind."""

    def write(values: list[T]) -> object:
        return list(values) if of.write is None else [of.write(value) for value in values]

    def read(found: object) -> list[T]:
        if type(found) is not list:
            raise ValueError("is no list")
        if len(found) > most:
            raise ValueError(f"has {len(found)} items, limit {most}")
        try:
            return [of.read(item) for item in found]
        except ValueError as exc:
            raise ValueError(f"has an item that {exc}") from exc

    return Kind(read, write)


def mapping(keys: Kind[K], values: Kind[T], most: int) -> Kind[dict[K, T]]:
    """Return the kind of dicts of at most so many items, in their order. No two keys may be written alike."""
    write_key, write_value = keys.write, values.write

    def write(items: dict[K, T]) -> object:
        return {
            (key if write_key is None else write_key(key)): (
                value if write_value is None else write_value(value)
            )
            for key, value in items.items()
        }

    def read(found: object) -> dict[K, T]:
        if type(found) is not dict:
            raise ValueError("is no map")
        if len(found) > most:
            raise ValueError(f"has {len(found)} items, limit {most}")
        try:
            return {keys.read(key): values.read(value) for key, value in found.items()}
        except ValueError as exc:
            raise ValueError(f"has an item that {exc}") from exc

    plain = write_key is None and write_value is None
    return Kind(read, None if plain else write)
