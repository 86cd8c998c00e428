"""What one takeover has done so far: by protocol, and how long connections stood still.

Whatever happens is told here, once, and from here to those who show it: the ``status`` of its process, which counts
all takeovers.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import attrs

from xproxy.observe.histogram import Histogram
from xproxy.observe.takeover import MAX_REASON, OTHER, PAUSE_BOUNDS, TakeoverStatus

MOST_REASONS: Final = 16
"""That a report names, the most frequent ones: it must fit into one message, however many clusters there are."""
_SHARES: Final = (("p50", 0.5), ("p99", 0.99), ("max", 1.0))


@attrs.define(eq=False)
class Tally:
    """Counts of one takeover."""

    status: TakeoverStatus = attrs.field(factory=TakeoverStatus)
    """Of the process; of a rehearsal, one that nobody sees."""
    moved: Counter[str] = attrs.field(factory=Counter)
    """By protocol."""
    refused: Counter[str] = attrs.field(factory=Counter)
    """By protocol and reason: what the other side did not want, or what cannot be written down."""
    left: Counter[str] = attrs.field(factory=Counter)
    """What ends in the old process, by protocol and reason."""
    untried: Counter[str] = attrs.field(factory=Counter)
    """By protocol and reason: of a rehearsal, what could not be tried."""
    pauses: list[float] = attrs.field(factory=list)
    """Seconds that each stood still."""
    paused: dict[str, Histogram] = attrs.field(factory=dict)
    """The same by protocol."""
    relayed: Counter[str] = attrs.field(factory=Counter)
    """By protocol: streams in flight, which go on here, and whose connection has moved."""

    # ---- who gives

    def gave(self, protocol: str, pause: float) -> None:
        """The other process has taken a connection, which was nobody's for so many seconds."""
        self.moved[protocol] += 1
        self.pauses.append(pause)
        if protocol not in self.paused:
            self.paused[protocol] = Histogram(PAUSE_BOUNDS)
        self.paused[protocol].observe(pause)
        self.status.gave(protocol, pause)

    def relay(self, protocol: str, streams: int) -> None:
        """A connection that has moved has so many streams in flight here."""
        if streams:
            self.relayed[protocol] += streams
        self.status.relay(protocol, streams)

    def tried(self, protocol: str) -> None:
        """The other process could take a connection."""
        self.moved[protocol] += 1

    def refuse(self, protocol: str, why: str) -> None:
        """A connection stays for ever."""
        self.refused[f"{protocol}: {why}"] += 1
        self.status.refuse(protocol, why)

    def cut_off(self, name: str, why: str, count: int) -> None:
        """So many connections or streams of a protocol were cut off."""
        self.left[f"{name}: cut off ({why})"] += count
        self.status.fail(why, count)

    # ---- who takes

    def took(self, protocol: str) -> None:
        """A connection is this process's now."""
        self.moved[protocol] += 1
        self.status.took(protocol)

    def turn_down(self, why: str) -> None:
        """A connection is not wanted here."""
        self.refused[why] += 1

    # ---- what is shown

    def pauses_at(self) -> dict[str, float]:
        """Return the seconds that so great a share of those that moved stood still at most: p50, p99, max."""
        ordered = sorted(self.pauses) or [0.0]
        return {
            name: ordered[min(int(len(ordered) * share), len(ordered) - 1)]
            for name, share in _SHARES
        }

    def __str__(self) -> str:
        """One line."""
        times = ", ".join(
            f"{name} {seconds * 1e3:.1f}" for name, seconds in self.pauses_at().items()
        )
        return (
            f"moved {_listed(self.moved)}; refused {_listed(self.refused)}; left {_listed(self.left)};"
            f" stood still for ms: {times}"
        )

    def plain(self) -> dict[str, object]:
        """Return it for a report, with no more than ``MOST_REASONS`` of each."""
        times = {name: round(seconds * 1e3, 3) for name, seconds in self.pauses_at().items()}
        shown = list(self.paused.items())[:MOST_REASONS]
        return {
            "moved": most(self.moved),
            "refused": most(self.refused),
            "left": most(self.left),
            **({"not_tried": most(self.untried)} if self.untried else {}),
            "relayed": most(self.relayed),
            "pause_ms": times,
            "pause_bounds_ms": [bound * 1e3 for bound in PAUSE_BOUNDS],
            "pauses": {name[:MAX_REASON]: found.counts for name, found in shown},
        }


def most(counts: Counter[str]) -> dict[str, int]:
    """Return the ``MOST_REASONS`` most frequent ones, cut to ``MAX_REASON`` characters; all others as ``OTHER``."""
    found: Counter[str] = Counter()
    for name, count in counts.most_common(MOST_REASONS):
        found[name[:MAX_REASON]] += count
    others = counts.total() - found.total()
    return {**found, OTHER: others} if others else dict(found)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(most(counts).items())) or "none"
