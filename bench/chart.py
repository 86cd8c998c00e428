"""The outcome of a run as bars: the first figure of each row."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

from bench.contest import OURS, Outcome
from bench.tools import Missing

_OURS_COLOUR = "#2563eb"
_PEER_COLOUR = "#9ca3af"


def draw(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write a PNG with one panel a row.

    Raises:
        Missing: matplotlib, which only this function needs, is not installed.
    """
    shown = [outcome for outcome in outcomes if outcome.standings]
    if not shown:
        raise Missing("no row was measured, so there is nothing to draw")
    try:
        matplotlib = importlib.import_module("matplotlib")
        matplotlib.use("Agg")
        pyplot = importlib.import_module("matplotlib.pyplot")
    except ImportError as exc:
        raise Missing(f"the chart needs matplotlib (pip install 'xproxy[bench]'): {exc}") from exc
    heights = [1.0 + 0.42 * len(outcome.standings) for outcome in shown]
    figure, panels = pyplot.subplots(
        len(shown),
        1,
        figsize=(9.0, sum(heights)),
        squeeze=False,
        height_ratios=heights,
        layout="constrained",
    )
    for outcome, panel in zip(shown, panels[:, 0], strict=True):
        headline = outcome.row.figures[0]
        standings = outcome.standings[::-1]  # the first one on top
        values = [standing.medians[headline.key] for standing in standings]
        bars = panel.barh(
            [standing.name for standing in standings],
            values,
            color=[_OURS_COLOUR if s.name == OURS else _PEER_COLOUR for s in standings],
        )
        labels = []
        for standing, value in zip(standings, values, strict=True):
            ratio = outcome.ratios.get(standing.name, {}).get(headline.key)
            beside = "" if ratio is None else f"  (xproxy: {ratio:.2f} ×)"
            labels.append(f"{value:,.{headline.digits}f}{beside}")
        panel.bar_label(bars, labels=labels, padding=3, fontsize=8)
        panel.set_title(outcome.row.title, fontsize=9, loc="left", fontweight="bold")
        panel.set_xlabel(f"{headline.label}, {headline.unit}", fontsize=8)
        panel.set_xlim(right=max(*values, 1e-9) * 1.3)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
