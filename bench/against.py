"""Two checkouts of xproxy in the same rounds: what a change costs.

The other checkout has an environment of its own (``make test`` or ``make demo`` there makes ``.venv``), and gets the
same configuration. Peers are left out. Rounds alternate in their order, so that a machine that gets slower or faster
while they last favours nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
from rich.console import Console
from rich.table import Table

from bench.contest import OURS, Outcome
from bench.lab import Lab
from bench.measure import ratios
from bench.rows.row import Contender, Probe, Row
from bench.tools import Missing

WORSE = 1.03
"""A ratio above which a row counts as worse."""
_OTHER = ", against"


@attrs.frozen(kw_only=True)
class Compared:
    """The headline figure of a contender, in both checkouts."""

    row: str
    contender: str
    figure: str
    ours: float
    theirs: float
    ratio: float
    """Median of the ratios of the rounds."""

    @property
    def worse(self) -> bool:
        return self.ratio > WORSE


def interpreter(tree: Path) -> Path:
    """Return the Python of a checkout's environment.

    Raises:
        Missing: it is no checkout, or has none.
    """
    found = tree / ".venv" / "bin" / "python"
    if not (tree / "xproxy" / "__main__.py").exists():
        raise Missing(f"{tree} is no checkout of xproxy")
    if not found.exists():
        raise Missing(f"{tree} has no environment: run `make demo` in it")
    return found


def against(row: Row, tree: Path) -> Row:
    """Return a row of xproxy alone, each of its contenders once here and once in the other checkout."""
    python = interpreter(tree)
    pairs = [
        (ours, _elsewhere(ours, tree, python))
        for ours in row.contenders
        if ours.name.startswith(OURS)
    ]
    return attrs.evolve(row, contenders=tuple(c for pair in pairs for c in pair), goals=())


def _elsewhere(ours: Contender, tree: Path, python: Path) -> Contender:
    @contextmanager
    def start(lab: Lab, upstream: int) -> Iterator[Probe]:
        with ours.start(attrs.evolve(lab, tree=tree, python=python), upstream) as probe:
            yield probe

    return Contender(name=ours.name + _OTHER, version=lambda: tree.name, start=start)


def compared(outcome: Outcome) -> list[Compared]:
    """Return what a row says of the two checkouts; a figure that may be nothing has no ratio."""
    figure = outcome.row.figures[0]
    found = []
    for ours in outcome.standings:
        theirs = outcome.standing(ours.name + _OTHER)
        if theirs is None:
            continue
        ratio = ratios(ours.samples, theirs.samples).get(figure.key)
        if ratio is not None:
            found.append(
                Compared(
                    row=outcome.row.key,
                    contender=ours.name,
                    figure=f"{figure.label}, {figure.unit}",
                    ours=ours.medians[figure.key],
                    theirs=theirs.medians[figure.key],
                    ratio=ratio,
                )
            )
    return found


def show(found: Sequence[Compared], tree: Path, console: Console) -> None:
    """Print the comparison."""
    table = Table("row", "contender", "figure", title=f"This tree and {tree}", title_style="bold")
    for heading in ("here", "there", "ratio"):
        table.add_column(heading, justify="right")
    for one in found:
        table.add_row(
            *(one.row, one.contender, one.figure, f"{one.ours:,.2f}", f"{one.theirs:,.2f}"),
            f"{one.ratio:.3f}{' worse' if one.worse else ''}",
            style="bold red" if one.worse else None,
        )
    console.print(table)
