"""Reading plain values that another version has written: what is missing or wrong is ValueError, and says where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final


class Fields:
    """Named fields of an object."""

    __slots__ = ("_values", "_where")

    def __init__(self, value: object, where: str) -> None:
        """``where``: how it is called in errors. Raises ValueError where ``value`` is no object."""
        if not isinstance(value, dict):
            raise ValueError(f"{where} is no object")
        self._values: Final[Mapping[str, object]] = value
        self._where: Final = where

    def __contains__(self, name: str) -> bool:
        """Say whether a field is there and is not null."""
        return self._values.get(name) is not None

    def _wrong(self, name: str, expected: str) -> ValueError:
        return ValueError(f"{self._where}.{name} is no {expected}")

    def text(self, name: str) -> str:
        value = self._values.get(name)
        if not isinstance(value, str):
            raise self._wrong(name, "text")
        return value

    def number(self, name: str) -> int:
        """Return a whole number from 0 up."""
        value = self._values.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self._wrong(name, "number")
        return value

    def seconds(self, name: str) -> float:
        """Return a duration, or another number that is not negative."""
        value = self._values.get(name)
        # Not "value < 0": that lets a NaN through, with which no timer is ever due.
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise self._wrong(name, "duration")
        return float(value)

    def flag(self, name: str) -> bool:
        value = self._values.get(name)
        if not isinstance(value, bool):
            raise self._wrong(name, "flag")
        return value

    def inner(self, name: str) -> Fields:
        return Fields(self._values.get(name), f"{self._where}.{name}")

    def objects(self, name: str) -> list[Fields]:
        return [Fields(one, f"{self._where}.{name}") for one in self._list(name)]

    def texts(self, name: str) -> list[str]:
        found = [one for one in self._list(name) if isinstance(one, str)]
        if len(found) != len(self._list(name)):
            raise self._wrong(name, "list of texts")
        return found

    def numbers(self, name: str) -> list[int]:
        """Return whole numbers from 0 up."""
        found = [one for one in self._list(name) if type(one) is int and one >= 0]
        if len(found) != len(self._list(name)):
            raise self._wrong(name, "list of numbers")
        return found

    def by_name(self, name: str) -> dict[str, str]:
        """Return texts by name."""
        values = self.inner(name)._values
        found = {key: value for key, value in values.items() if isinstance(value, str)}
        if len(found) != len(values):
            raise self._wrong(name, "object of texts")
        return found

    def by_number(self, name: str) -> dict[int, int]:
        """Return whole numbers from 0 up, by others."""
        values = self.inner(name)
        found = {}
        for key in values._values:
            if not (key.isascii() and key.isdigit()):
                raise self._wrong(name, "object of numbers")
            found[int(key)] = values.number(key)
        return found

    def counts(self, name: str) -> dict[str, int]:
        """Return whole numbers from 0 up, by name."""
        values = self.inner(name)
        return {key: values.number(key) for key in values._values}

    def plain(self, name: str) -> dict[str, object]:
        """Return an object as it is."""
        return dict(self.inner(name)._values)

    def _list(self, name: str) -> list[object]:
        value = self._values.get(name)
        if not isinstance(value, list):
            raise self._wrong(name, "list")
        return value
