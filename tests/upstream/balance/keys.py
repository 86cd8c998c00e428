"""Requests with keys, and how evenly endpoints share them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Sequence

from xxhash import xxh64_intdigest

from tests.upstream.balance.test_api import REQUEST
from xproxy.upstream.balance.api import Picker
from xproxy.upstream.endpoint import Endpoint


def pick(picker: Picker, key: int | None, avoid: Container[object] = ()) -> Endpoint:
    """Pick for a request of this hash."""
    REQUEST.record.hash = key
    try:
        return picker.pick(REQUEST, avoid)
    finally:
        REQUEST.record.hash = None


def owners(picker: Picker, count: int = 20_000) -> list[Endpoint]:
    """Return who has each of so many keys."""
    return [pick(picker, xxh64_intdigest(b"key %d" % number)) for number in range(count)]


def moved(before: Iterable[Endpoint], after: Iterable[Endpoint]) -> float:
    """Return the percent of keys that another endpoint has."""
    different = [one is not other for one, other in zip(before, after, strict=True)]
    return 100 * sum(different) / len(different)


def chi_square(picks: Sequence[Endpoint], among: Sequence[Endpoint]) -> float:
    """Return how far picks are from what weights say; above ``critical`` in one of 1,000 cases by chance."""
    counts = Counter(id(one) for one in picks)
    whole = sum(one.weight for one in among)
    wanted = [len(picks) * one.weight / whole for one in among]
    return sum((counts[id(o)] - w) ** 2 / w for o, w in zip(among, wanted, strict=True))


def critical(among: Sequence[Endpoint]) -> float:
    """Return the 99.9 % point of chi-square (Wilson and Hilferty's approximation)."""
    free = len(among) - 1
    return free * float(1 - 2 / (9 * free) + 3.09 * (2 / (9 * free)) ** 0.5) ** 3
