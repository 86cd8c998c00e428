"""Histograms: how often a value fell into which of some fixed buckets."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from typing import Final, final

LATENCY_BOUNDS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Upper bounds in seconds, inclusive: what a proxy adds up to what a route waits."""


@final
class Histogram:
    """How often a value fell into which of the fixed buckets."""

    __slots__ = ("bounds", "counts", "total")

    bounds: Final[tuple[float, ...]]
    """Upper bounds of the buckets, inclusive, rising; values above the last have a bucket of their own."""
    counts: Final[list[int]]
    """Values in each bucket (not cumulative); one more than bounds."""
    total: float
    """The sum of all values."""

    def __init__(self, bounds: Sequence[float] = LATENCY_BOUNDS) -> None:
        if not bounds or any(a >= b for a, b in itertools.pairwise(bounds)):
            raise ValueError("the bounds of a histogram must rise")
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def copy(self) -> Histogram:
        """Return another one with the same values."""
        found = Histogram(self.bounds)
        found.counts[:] = self.counts
        found.total = self.total
        return found

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Histogram)
            and self.bounds == other.bounds
            and self.counts == other.counts
            and self.total == other.total
        )

    __hash__ = None  # type: ignore[assignment]  # it changes

    def observe(self, value: float) -> None:
        self.counts[bisect.bisect_left(self.bounds, value)] += 1
        self.total += value

    def __str__(self) -> str:
        quantiles = " ".join(f"P{q * 100:g}<={self.quantile(q):g}" for q in (0.5, 0.9, 0.99))
        return f"count={self.count} sum={self.total:.6g} {quantiles}"

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    def quantile(self, share: float) -> float:
        """Return the upper bound of the bucket in which this share of all values ends; inf above the last one."""
        wanted = share * self.count
        seen = 0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            seen += count
            if seen >= wanted and seen:
                return bound
        return float("inf") if self.counts[-1] else 0.0
