"""How much of the requests each priority takes, by the health of all of them (semantics of Envoy: priority levels).

Pure arithmetic, in whole percent. A level's health is ``factor × healthy ÷ total``, at most 100. The levels are
walked from the best: each takes what it can of what is left; healthy endpoints of all levels come before degraded
ones. Where all together cannot take everything, each takes its share of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

OVERPROVISIONING: Final = 140
"""Percent. At it a level is whole until fewer than 72 % of its endpoints are healthy."""
PANIC: Final = 50
"""Percent of a level's endpoints: where fewer are fit, it may panic."""


@attrs.frozen
class Level:
    """What there is at one priority, in endpoints."""

    total: int
    """At least one."""
    healthy: int
    degraded: int = 0
    fit: int = -1
    """Those that nobody says are unhealthy: the ones above, and such that only fail of late. -1: just those above."""

    @property
    def sound(self) -> int:
        """Those that do not count towards a panic."""
        return self.healthy + self.degraded if self.fit < 0 else self.fit


@attrs.frozen
class Loads:
    """Percent of all requests by level; all together 100, or 0 where nobody is healthy."""

    healthy: tuple[int, ...]
    degraded: tuple[int, ...]
    panic: tuple[bool, ...]
    """A level's whole share, of both kinds, goes to all of its endpoints."""


def health(part: int, total: int, factor: int = OVERPROVISIONING) -> int:
    """Return the percent of all requests that ``part`` of ``total`` endpoints may take; of any, at least 1."""
    return min(100, max(1, factor * part // total)) if part else 0


def loads(levels: Sequence[Level], factor: int = OVERPROVISIONING, threshold: int = PANIC) -> Loads:
    """Return what each of ``levels``, the best first, takes. ``threshold`` 0: no level ever panics.

    Where no level has anybody healthy or degraded all loads are 0, and all levels that may are in panic.
    """
    count = len(levels)
    can = [health(one.healthy, one.total, factor) for one in levels]
    can += [health(one.degraded, one.total, factor) for one in levels]
    whole = sum(can)
    takes = _walked(can) if whole >= 100 else _in_proportion(can, whole)
    panic = [whole < 100 and one.sound * 100 < threshold * one.total for one in levels]
    return Loads(tuple(takes[:count]), tuple(takes[count:]), tuple(panic))


def _walked(can: Sequence[int]) -> list[int]:
    takes = []
    left = 100
    for one in can:
        takes.append(min(one, left))
        left -= takes[-1]
    return takes


def _in_proportion(can: Sequence[int], whole: int) -> list[int]:
    # Largest remainders: 7 and 91 of 98 are 7 and 93 of 100.
    if not whole:
        return [0] * len(can)
    takes = [one * 100 // whole for one in can]
    by_remainder = sorted(range(len(can)), key=lambda i: -(can[i] * 100 % whole))
    for index in by_remainder[: 100 - sum(takes)]:
        takes[index] += 1
    return takes
