"""Latency over time, with the upgrade marked, as an SVG that needs no library and no script."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from bench.takeover.kinds import KINDS
from bench.takeover.records import percentile
from bench.takeover.steady import STALL_SECONDS, Steady

_WIDTH, _PANEL, _LEFT, _RIGHT, _TOP, _GAP = 900, 110, 60, 20, 40, 34
_BIN_SECONDS = 0.1
_LEAST, _MOST = 1e-4, 1.0
"""Seconds at the bottom and at the top of a panel."""
_STYLE = (
    "text{font:11px sans-serif;fill:#374151}.t{font-weight:bold}.g{stroke:#e5e7eb}.m{stroke:#dc2626;stroke-width:1.5}"
    ".o{fill:#dc2626;opacity:.08}.a{fill:none;stroke:#2563eb;stroke-width:1.2}.h{fill:none;stroke:#9ca3af}"
    ".b{stroke:#f59e0b;stroke-dasharray:4 3}"
)


def draw(found: Sequence[Steady]) -> str:
    """Return a picture with a panel for each run: the median and the slowest request of each tenth of a second."""
    height = _TOP + len(found) * (_PANEL + _GAP) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}">',
        f'<style>{_STYLE}</style><rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="18" class="t">Latency of requests while the proxy is upgraded (ms): '
        "median (blue) and slowest (grey) of each 0.1 s; red: from the command until the old process has gone</text>",
    ]
    for number, one in enumerate(found):
        parts += _panel(one, _TOP + number * (_PANEL + _GAP))
    return "\n".join([*parts, "</svg>", ""])


def _panel(one: Steady, top: float) -> Iterator[str]:
    first = min((at for at, _ in one.points), default=0.0)
    last = max((at for at, _ in one.points), default=1.0)
    scale = (_WIDTH - _LEFT - _RIGHT) / max(1e-9, last - first)

    def x(at: float) -> float:
        return _LEFT + (at - first) * scale

    def y(seconds: float) -> float:
        share = math.log(min(_MOST, max(_LEAST, seconds)) / _LEAST) / math.log(_MOST / _LEAST)
        return top + _PANEL * (1 - share)

    title = f"{KINDS[one.kind].title}: {one.alive} of {one.connections} connections alive"
    yield f'<text x="{_LEFT}" y="{top - 4:.0f}" class="t">{escape(title)}</text>'
    gone = one.upgraded.gone_after
    end = last if gone is None else gone
    yield (
        f'<rect x="{x(0):.1f}" y="{top}" width="{max(1.0, x(end) - x(0)):.1f}" height="{_PANEL}" class="o"/>'
    )
    decades = round(math.log10(_MOST / _LEAST))
    for decade in range(decades + 1):
        seconds = _LEAST * 10**decade
        at = f"{y(seconds):.1f}"
        yield f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at}" y2="{at}" class="g"/>'
        yield f'<text x="{_LEFT - 6}" y="{y(seconds) + 4:.1f}" text-anchor="end">{seconds * 1e3:g}</text>'
    bound = f"{y(STALL_SECONDS[-1]):.1f}"
    yield f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{bound}" y2="{bound}" class="b"/>'
    yield f'<line x1="{x(0):.1f}" x2="{x(0):.1f}" y1="{top}" y2="{top + _PANEL}" class="m"/>'
    bins: dict[int, list[float]] = {}
    for when, taken in one.points:
        bins.setdefault(math.floor(when / _BIN_SECONDS), []).append(taken)
    for style, choose in (("h", 100.0), ("a", 50.0)):
        line = " ".join(
            f"{x((n + 0.5) * _BIN_SECONDS):.1f},{y(percentile(bins[n], choose)):.1f}"
            for n in sorted(bins)
        )
        yield f'<polyline points="{line}" class="{style}"/>'
    for tick in range(math.ceil(first), math.floor(last) + 1, 1 + int((last - first) / 20)):
        said = f"{tick:+d} s" if tick else "upgrade"
        yield f'<text x="{x(tick):.1f}" y="{top + _PANEL + 13}" text-anchor="middle">{said}</text>'
