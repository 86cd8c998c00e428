"""What a takeover has done so far: by protocol, and how long connections stood still."""

from __future__ import annotations

from collections import Counter

import attrs


@attrs.define(eq=False)
class Tally:
    """Counts of one takeover."""

    moved: Counter[str] = attrs.field(factory=Counter)
    """By protocol."""
    refused: Counter[str] = attrs.field(factory=Counter)
    """By protocol and reason: what the other side did not want, or what cannot be written down."""
    left: Counter[str] = attrs.field(factory=Counter)
    """What ends in the old process, by protocol and reason."""
    pauses: list[float] = attrs.field(factory=list)
    """Seconds that each stood still."""

    def pause(self, share: float) -> float:
        """Return the seconds that so great a share of those that moved stood still at most."""
        if not self.pauses:
            return 0.0
        ordered = sorted(self.pauses)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)]

    def __str__(self) -> str:
        """One line."""
        times = ", ".join(
            f"{name} {self.pause(share) * 1e3:.1f}"
            for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
        )
        return (
            f"moved {_listed(self.moved)}; refused {_listed(self.refused)}; left {_listed(self.left)};"
            f" stood still for ms: {times}"
        )

    def plain(self) -> dict[str, object]:
        """Return it for a report."""
        return {
            "moved": dict(self.moved),
            "refused": dict(self.refused),
            "left": dict(self.left),
            "pause_ms": {
                "p50": round(self.pause(0.5) * 1e3, 3),
                "p99": round(self.pause(0.99) * 1e3, 3),
                "max": round(self.pause(1.0) * 1e3, 3),
            },
        }


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"
