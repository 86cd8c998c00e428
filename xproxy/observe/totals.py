"""Totals: numbers of statistics apart from the objects that count, to be told to another process and added there.

What is read comes from another process: everything wrong is a ValueError, and every table has a bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias, final

from xproxy.codecs.state_kinds import Kind, mapping, number, sequence, text
from xproxy.observe.histogram import Histogram

Value: TypeAlias = int | dict[str, int] | Histogram
"""A number, numbers by label, or a histogram."""
Place: TypeAlias = tuple[str, str]
"""Kind and name of the statistics that a number belongs to."""

MOST: Final = 2**62
"""No number gets above it, whatever is added."""
MOST_PLACES: Final = 262_144
"""Places that one process tells of, or remembers of others; more are not remembered."""
MOST_FIELDS: Final = 256
"""Fields of one place."""
MOST_LABELS: Final = 4096
"""Labels of one field."""
MOST_BUCKETS: Final = 256
_NAME_CHARACTERS: Final = 4096
"""Of one name: a path is the longest."""


@final
class Totals:
    """Values by place and field."""

    __slots__ = ("_fields",)

    def __init__(self) -> None:
        self._fields: dict[Place, dict[str, Value]] = {}

    def __iter__(self) -> Iterator[tuple[Place, str, Value]]:
        for place, fields in self._fields.items():
            for field, value in fields.items():
                yield place, field, value

    def __len__(self) -> int:
        """How many places there are."""
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Totals) and self._fields == other._fields

    __hash__ = None  # type: ignore[assignment]  # it changes

    def of(self, place: Place) -> Mapping[str, Value]:
        """Return the values of a place by field; empty if there are none."""
        return self._fields.get(place, {})

    def put(self, place: Place, field: str, value: Value) -> None:
        """Set one value, unless there are ``MOST_PLACES`` others, or that many fields. It is not copied."""
        fields = self._fields.get(place)
        if fields is None:
            if len(self._fields) >= MOST_PLACES:
                return
            fields = self._fields[place] = {}
        if field in fields or len(fields) < MOST_FIELDS:
            fields[field] = value

    def drop(self, place: Place) -> None:
        """Forget a place, if it is there."""
        self._fields.pop(place, None)

    def add(self, other: Totals) -> None:
        """Add all values of ``other``. Where one has another shape than here, it is passed over."""
        for place, field, value in other:
            here = self.of(place).get(field)
            self.put(place, field, plus(_nothing(value) if here is None else here, value))


def plus(one: Value, other: Value) -> Value:
    """Return the sum, a new value; ``one`` itself if the two have other shapes."""
    if isinstance(one, int):
        return _sum(one, other) if isinstance(other, int) else one
    if isinstance(one, dict):
        if not isinstance(other, dict):
            return one
        found = dict(one)
        for label, count in other.items():
            if label in found or len(found) < MOST_LABELS:
                found[label] = _sum(found.get(label, 0), count)
        return found
    if not isinstance(other, Histogram) or other.bounds != one.bounds:
        return one
    both = Histogram(one.bounds)
    both.counts[:] = map(_sum, one.counts, other.counts)
    both.total = one.total + other.total
    return both


def _sum(one: int, other: int) -> int:
    return max(-MOST, min(MOST, one + other))


def _nothing(like: Value) -> Value:
    if isinstance(like, int):
        return 0
    return {} if isinstance(like, dict) else Histogram(like.bounds)


def grown(now: Value, before: Value | None) -> Value | None:
    """Return by how much a value has grown, a new value; None: it has not. What has shrunk has begun anew.

    ``before`` None: there was nothing.
    """
    if isinstance(now, int):
        more = now - (before if isinstance(before, int) else 0)
        return more if more > 0 else None
    if isinstance(now, dict):
        known = before if isinstance(before, dict) else {}
        labels = {
            label: count - known.get(label, 0)
            for label, count in now.items()
            if count > known.get(label, 0)
        }
        return labels or None
    if not isinstance(before, Histogram) or before.bounds != now.bounds:
        before = Histogram(now.bounds)
    counts = [a - b for a, b in zip(now.counts, before.counts, strict=True)]
    if min(counts) < 0 or not any(counts):
        return None
    found = Histogram(now.bounds)
    found.counts[:] = counts
    found.total = now.total - before.total
    return found


# ---- written down


def _write_value(value: Value) -> object:
    if isinstance(value, Histogram):
        return [list(value.bounds), list(value.counts), float(value.total)]
    return value


def _read_bound(found: object) -> float:
    if type(found) is not float or not math.isfinite(found):
        raise ValueError("is no finite float")
    return found


_FLOATS: Final = sequence(Kind(_read_bound), MOST_BUCKETS)


def _value_kind(lowest: int) -> Kind[Value]:
    count = number(lowest, MOST)
    labels = mapping(text(_NAME_CHARACTERS), count, MOST_LABELS)
    counts = sequence(count, MOST_BUCKETS + 1)

    def read(found: object) -> Value:
        if type(found) is dict:
            return labels.read(found)
        if type(found) is not list:
            return count.read(found)
        if len(found) != 3:
            raise ValueError("is no histogram")
        histogram = Histogram(_FLOATS.read(found[0]))
        counted = counts.read(found[1])
        if len(counted) != len(histogram.counts):
            raise ValueError(f"has {len(counted)} buckets, not {len(histogram.counts)}")
        histogram.counts[:] = counted
        histogram.total = _read_bound(found[2])
        return histogram

    return Kind(read, _write_value)


def totals_kind(lowest: int) -> Kind[Totals]:
    """Return how totals are written, and read: ``[kind, name, {field: value}]`` each, no number below ``lowest``."""
    name = text(_NAME_CHARACTERS)
    fields = mapping(name, _value_kind(lowest), MOST_FIELDS)

    def write(totals: Totals) -> object:
        write_fields = fields.write
        assert write_fields is not None
        return [
            [kind, name, write_fields(dict(values))]
            for (kind, name), values in totals._fields.items()
        ]

    def read(found: object) -> Totals:
        if type(found) is not list:
            raise ValueError("is no list")
        if len(found) > MOST_PLACES:
            raise ValueError(f"has {len(found)} places, limit {MOST_PLACES}")
        totals = Totals()
        for entry in found:
            if type(entry) is not list or len(entry) != 3:
                raise ValueError("has a place that is none")
            place = name.read(entry[0]), name.read(entry[1])
            if totals.of(place):
                raise ValueError("has a place twice")
            for field, value in fields.read(entry[2]).items():
                totals.put(place, field, value)
        return totals

    return Kind(read, write)
