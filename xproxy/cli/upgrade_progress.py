"""How an upgrade goes, as a person reads it: a line for each report, a table meanwhile, a summary of all workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

import attrs
from rich.table import Table

_BESIDE: Final = frozenset({"kind", "step", "index", "generation", "worker", "why", "pause_ms"})
_SHARES: Final = ("p50", "p99", "max")


@attrs.define(eq=False)
class Progress:
    """Of one upgrade; reports are what the supervisor passes on (``proxy.handover.Report``), of any version."""

    _told: dict[object, tuple[int, Mapping[str, object]]] = attrs.field(factory=dict)
    # By worker: the last word of the process that gives, which is of the older generation of the two.

    def note(self, report: Mapping[str, object]) -> None:
        """Take one into account."""
        if not isinstance(report.get("moved"), Mapping):
            return
        index, generation = report.get("index", 0), _number(report.get("generation"))
        known = self._told.get(index)
        if known is None or generation <= known[0]:
            self._told[index] = generation, report

    def table(self) -> Table:
        """Return what has become of the connections, by protocol."""
        moved, waiting = self._sum("moved"), self._sum("waiting")
        refused: Counter[str] = Counter()
        for name, count in self._sum("refused").items():
            refused[name.partition(":")[0]] += count
        table = Table("", "moved", "refused", "waiting", title=self._pauses() or None)
        for name in sorted({*moved, *refused, *waiting}):
            table.add_row(name, str(moved[name]), str(refused[name]), str(waiting[name]))
        return table

    def summary(self) -> str:
        """Return what has become of them all, beginning with "; "; empty where nobody said it."""
        if not self._told:
            return ""
        parts = [f"moved {listed(self._sum('moved'))}", f"refused {listed(self._sum('refused'))}"]
        left = self._sum("left")
        if left:
            parts.append(f"left {listed(left)}")
        pauses = self._pauses()
        return "".join(f"; {part}" for part in (*parts, *([pauses] if pauses else [])))

    def tried(self) -> str:
        """Return what has come of a rehearsal, likewise."""
        if not self._told:
            return ""
        refused = self._sum("refused")
        untried = self._sum("not_tried")
        more = f"; not tried {listed(untried)}" if untried else ""
        return f"; could move {listed(self._sum('moved'))}; could not {listed(refused)}{more}"

    def _sum(self, name: str) -> Counter[str]:
        found: Counter[str] = Counter()
        for _, report in self._told.values():
            found.update(_counts(report.get(name)))
        return found

    def _pauses(self) -> str:
        # Of several workers the longest.
        found: dict[str, float] = {}
        for _, report in self._told.values():
            pauses = report.get("pause_ms")
            for name, value in pauses.items() if isinstance(pauses, Mapping) else ():
                if isinstance(value, int | float):
                    found[name] = max(found.get(name, 0.0), value)
        return pause(found)


def line(report: Mapping[str, object]) -> str:
    """Return a report as a line."""
    step = str(report.get("step", ""))
    index = report.get("index", report.get("worker", 0))
    generation = f"generation {report['generation']} " if "generation" in report else ""
    parts = [str(report["why"])] if report.get("why") else []
    for name, value in report.items():
        if name in _BESIDE:
            continue
        text = _plain(value)
        if text:
            if step == "rehearsed" and name == "moved":
                name = "could move"
            parts.append(f"{name.replace('_', ' ')} {text}")
    pauses = report.get("pause_ms")
    if isinstance(pauses, Mapping) and any(pauses.values()):
        parts.append(pause(pauses))
    return f"{generation}worker {index}: {step}{': ' if parts else ''}{'; '.join(parts)}"


def pause(found: Mapping[str, object]) -> str:
    """Return how long connections stood still; empty where nobody said it."""
    said = [
        f"{name} {value:.1f}"
        for name in _SHARES
        if isinstance(value := found.get(name), int | float)
    ]
    return f"stood still for ms: {', '.join(said)}" if said else ""


def listed(counts: Mapping[str, int]) -> str:
    """Return counts as a text: ``3 http1, 1 http2``."""
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{count} {name}" for name, count in sorted(value.items()))
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def _counts(value: object) -> dict[str, int]:
    if not isinstance(value, Mapping):
        return {}
    return {str(name): _number(count) for name, count in value.items()}


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
