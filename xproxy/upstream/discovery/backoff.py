"""How long to wait after a failure: twice as long each time, up to a bound, and never all at the same moment."""

from __future__ import annotations

from random import Random
from typing import Final

FIRST_SECONDS: Final = 1.0
"""After the first failure, at most."""
MOST_SECONDS: Final = 30.0
"""After any number of them, at most."""


class Backoff:
    """Delays of failures in a row.

    Each is drawn from the upper half of its span: a delay of nearly nothing would ask a server at once that has just
    failed.
    """

    __slots__ = ("_first", "_most", "_random", "_span")

    def __init__(
        self, random: Random, first: float = FIRST_SECONDS, most: float = MOST_SECONDS
    ) -> None:
        self._random = random
        self._first = first
        self._most = max(first, most)
        self._span = first

    def delay(self) -> float:
        """Return how long to wait after one more failure, in seconds."""
        span = self._span
        self._span = min(span * 2, self._most)
        return self._random.uniform(span / 2, span)

    def reset(self) -> None:
        """It has gone well: the next failure is the first."""
        self._span = self._first
