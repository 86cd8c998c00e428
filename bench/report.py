"""The outcome of a run, for people (a table) and for programs (JSON)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.contest import OURS, Judged, Outcome

Json = str | int | float | bool | None | Sequence["Json"] | Mapping[str, "Json"]
_QUIET = 0.1
"""A share of a CPU taken by others above which a figure is marked."""


def show(outcome: Outcome, console: Console) -> None:
    """Print one row of the figures."""
    row = outcome.row
    table = Table(title=escape(f"{row.key}: {row.title}"), title_justify="left", title_style="bold")
    table.add_column("median of the rounds", no_wrap=True)
    for figure in row.figures:
        unit = f"\n{figure.unit}" if figure.unit else ""
        table.add_column(f"{figure.label}{unit}", justify="right")
    headline = row.figures[0]
    table.add_column(f"xproxy ÷\n({headline.unit})", justify="right")
    table.add_column("errors", justify="right")
    table.add_column("others'\nCPU", justify="right")
    for standing in outcome.standings:
        ratio = outcome.ratios.get(standing.name, {}).get(headline.key)
        table.add_row(
            escape(f"{standing.name} {standing.version}"),
            *(f"{standing.medians[f.key]:,.{f.digits}f}" for f in row.figures),
            "" if ratio is None else f"{ratio:.2f}",
            str(standing.errors),
            _share(standing.others_cpu),
            style="bold" if standing.name == OURS else None,
        )
    if outcome.standings:
        console.print(table)
    else:
        console.print(escape(f"{row.key}: {row.title}"), style="bold")
    for judged in outcome.judged:
        mark = "[green]met[/]" if judged.met else "[red]missed[/]"
        console.print(f"  goal: {escape(goal_text(outcome, judged))}: {mark}")
    for name, reason in outcome.skipped:
        console.print(f"  skipped: {escape(name)}: {escape(reason)}", style="yellow")
    for name, reason in outcome.failed:
        console.print(f"  failed: {escape(name)}: {escape(reason)}", style="red")
    if row.note:
        console.print(f"  note: {escape(row.note)}", style="dim")
    console.print()


def _share(value: float) -> str:
    return f"{value:.0%}{' !' if value > _QUIET else ''}"


def goal_text(outcome: Outcome, judged: Judged) -> str:
    """Return a goal and its value in words."""
    goal = judged.goal
    figure = next(f for f in outcome.row.figures if f.key == goal.figure)
    sign = "≤" if goal.better == "lower" else "≥"
    unit = f"× {goal.peer}" if goal.peer is not None else figure.unit
    return f"{figure.label} {judged.value:.2f} {unit} ({sign} {goal.bound:g})"


def as_json(
    outcomes: Sequence[Outcome], *, machine: Mapping[str, Json], conditions: Mapping[str, Json]
) -> Json:
    """Return the whole run as what ``json.dumps`` takes."""
    return {
        "machine": machine,
        "conditions": conditions,
        "rows": [_row(outcome) for outcome in outcomes],
    }


def _row(outcome: Outcome) -> Json:
    return {
        "key": outcome.row.key,
        "title": outcome.row.title,
        "note": outcome.row.note,
        "figures": [{"key": f.key, "label": f.label, "unit": f.unit} for f in outcome.row.figures],
        "contenders": [
            {
                "name": standing.name,
                "version": standing.version,
                "median": standing.medians,
                "rounds": [dict(sample.values) for sample in standing.samples],
                "errors": standing.errors,
                "others_cpu": round(standing.others_cpu, 3),
            }
            for standing in outcome.standings
        ],
        "ratios": outcome.ratios,
        "goals": [
            {"text": goal_text(outcome, judged), "value": judged.value, "met": judged.met}
            for judged in outcome.judged
        ],
        "skipped": [{"name": name, "reason": reason} for name, reason in outcome.skipped],
        "failed": [{"name": name, "reason": reason} for name, reason in outcome.failed],
    }
