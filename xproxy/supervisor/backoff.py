"""How long to wait before a worker that has ended unexpectedly is started again."""

from __future__ import annotations

from typing import Final

FIRST: Final = 0.1
"""Seconds before the second start; the first is at once, and each further one waits twice as long …"""
MOST: Final = 30.0
"""… up to this."""
HEALTHY: Final = 60.0
"""Seconds after which a worker counts as well, and its next end as the first."""


class Backoff:
    """Of one worker's place, whoever has it."""

    __slots__ = ("failures",)

    def __init__(self) -> None:
        self.failures = 0
        """Unexpected ends in a row."""

    def next(self, lived: float) -> float:
        """Return how many seconds to wait, after a worker has ended that had lived so long."""
        if lived >= HEALTHY:
            self.failures = 0
        self.failures += 1
        if self.failures == 1:
            return 0.0
        # The exponent is bounded too: a worker that fails for a year would overflow it.
        return min(FIRST * 2.0 ** min(self.failures - 2, 16), MOST)
