"""A circuit: whether a call may be made, by how many of those before it have failed. It decides, and does no I/O.

Closed, it counts outcomes of the last ``window`` seconds. Too many failures among enough of them open it: nothing is
let through for ``sleep_window``. Then it is half open: one call goes through as a probe, and decides for all.
(idea: Hystrix's HystrixCircuitBreaker, hystrix-go as used by Mesher)
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import attrs

BUCKETS: Final = 10
"""Parts of the window: so much of it is forgotten at a time."""


class State(Enum):
    """Of a circuit."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@attrs.define(eq=False)
class Window:
    """Counts of outcomes in the last ``seconds``, to a tenth of it."""

    seconds: float
    _buckets: list[list[int]] = attrs.field(factory=list, init=False)
    """Number, outcomes and failures of each, the oldest first."""

    def add(self, now: float, failed: bool) -> tuple[int, int]:
        """Count one, and return how many there are, and how many of them have failed."""
        number = int(now * BUCKETS / self.seconds)
        buckets = self._buckets
        while buckets and buckets[0][0] <= number - BUCKETS:
            del buckets[0]
        if not buckets or buckets[-1][0] != number:
            buckets.append([number, 0, 0])
        buckets[-1][1] += 1
        buckets[-1][2] += failed
        return sum(one[1] for one in buckets), sum(one[2] for one in buckets)

    def clear(self) -> None:
        """Forget everything."""
        self._buckets.clear()


@attrs.define(eq=False, kw_only=True)
class Circuit:
    """One circuit. Times are seconds of any clock that goes on."""

    window: Window
    sleep_window: float
    volume: int
    """Fewer outcomes in the window open nothing."""
    error_percent: float
    """So many percent of them must have failed."""
    state: State = State.CLOSED
    until: float = 0.0
    """Open: when a probe may go through."""

    def admit(self, now: float) -> bool | None:
        """Say whether a call may be made; None: as a probe, which must be told by ``ended`` or ``gave_up``."""
        if self.state is State.CLOSED:
            return True
        if self.state is State.HALF_OPEN or now < self.until:
            return False
        self.state = State.HALF_OPEN
        return None

    def ended(self, now: float, *, failed: bool, probe: bool) -> None:
        """A call that was let through has ended."""
        if probe:
            if failed:
                self._open(now + self.sleep_window)
            else:
                self.state = State.CLOSED
                self.window.clear()
        elif self.state is State.CLOSED:
            # What began before it opened says nothing about how things are now.
            total, failures = self.window.add(now, failed)
            if failed and total >= self.volume and failures * 100 >= self.error_percent * total:
                self._open(now + self.sleep_window)

    def gave_up(self, now: float) -> None:
        """A probe ended without an outcome: the next call is one."""
        self._open(now)

    def _open(self, until: float) -> None:
        self.state = State.OPEN
        self.until = until
