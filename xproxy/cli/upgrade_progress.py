"""How an upgrade goes, as a person reads it: a line for each report, a table meanwhile, a summary of all workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import attrs
from rich.box import SIMPLE_HEAD
from rich.table import Table

_BESIDE: Final = frozenset(
    {
        *("kind", "step", "index", "generation", "worker", "why"),
        *("pause_ms", "pause_bounds_ms", "pauses"),
    }
)
_BARS: Final = "▁▂▃▄▅▆▇█"
_NAMES: Final = {"relayed": "streams relayed"}
_STEPS: Final = {
    "prepared": "the new one could serve",
    "ready": "the new one is ready",
    "accepting": "the new one accepts",
    "giving": "connections move",
    "given": "all that can move has moved",
    "alone": "the new one serves alone",
    "gone": "the old one ends",
    "withdrawn": "the old one goes on",
}
"""What is shown of a step; others by their names."""
_SHARES: Final = ("p50", "p99", "max")


@attrs.define(eq=False)
class Progress:
    """Of one upgrade; reports are what the supervisor passes on (``proxy.handover.Report``), of any version."""

    _told: dict[object, tuple[int, Mapping[str, object]]] = attrs.field(factory=dict)
    # By worker: the last word of the process that gives, which is of the older generation of the two.
    _step: str = "starting"
    # What was said last by either.

    def note(self, report: Mapping[str, object]) -> None:
        """Take one into account."""
        step = str(report.get("step", ""))
        index = report.get("index", report.get("worker", 0))
        self._step = f"worker {index}: {_STEPS.get(step, step)}"
        if not isinstance(report.get("moved"), Mapping):
            return
        index, generation = report.get("index", 0), _number(report.get("generation"))
        known = self._told.get(index)
        if known is None or generation <= known[0]:
            self._told[index] = generation, report

    def table(self) -> Table:
        """Return what has become of the connections, by protocol, and how long they stood still."""
        moved, waiting, relayed = self._sum("moved"), self._sum("waiting"), self._sum("relayed")
        refused: Counter[str] = Counter()
        for name, count in self._sum("refused").items():
            refused[name.partition(":")[0]] += count
        bounds, pauses = self._histograms()
        scale = ""
        if bounds:
            cuts = ", ".join(f"{one:g}" for one in bounds)
            scale = f"stood still: how many for up to {cuts} ms, and longer"
        table = Table(box=SIMPLE_HEAD, title=self._step, caption=scale or None)
        for heading in ("", "moved", "refused", "waiting", "relayed"):
            table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
        table.add_column("stood still", no_wrap=True)
        for name in sorted({*moved, *refused, *waiting, *relayed}):
            counts = (moved[name], refused[name], waiting[name], relayed[name])
            shown = bars(pauses[name]) if name in pauses else ""
            table.add_row(name, *map(str, counts), shown)
        return table

    def _histograms(self) -> tuple[list[float], dict[str, list[int]]]:
        # Added up over workers; those of another version of xproxy may be cut otherwise, and are passed over then.
        bounds: list[float] = []
        found: dict[str, list[int]] = {}
        for _, report in self._told.values():
            cut, pauses = report.get("pause_bounds_ms"), report.get("pauses")
            if not isinstance(cut, list) or not isinstance(pauses, Mapping):
                continue
            theirs = [one for one in cut if isinstance(one, int | float)]
            bounds = bounds or theirs
            for name, counts in pauses.items():
                if theirs == bounds and isinstance(counts, list) and len(counts) == len(bounds) + 1:
                    before = found.get(str(name), [0] * len(counts))
                    found[str(name)] = [a + _number(b) for a, b in zip(before, counts, strict=True)]
        return bounds, found

    def summary(self) -> str:
        """Return what has become of them all, beginning with "; "; empty where nobody said it."""
        if not self._told:
            return ""
        parts = [f"moved {listed(self._sum('moved'))}", f"refused {listed(self._sum('refused'))}"]
        relayed = self._sum("relayed")
        if relayed:
            parts.append(f"streams relayed {listed(relayed)}")
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
            parts.append(f"{_NAMES.get(name, name.replace('_', ' '))} {text}")
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


def bars(counts: Sequence[int]) -> str:
    """Return a histogram as a line: a bar for each bucket, the highest for the fullest; a dot where nothing is."""
    most = max(counts, default=0)
    return "".join(
        _BARS[(count * len(_BARS) - 1) // most] if count > 0 else "·" for count in counts
    )


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
