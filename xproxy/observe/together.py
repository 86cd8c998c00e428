"""The numbers of several processes on one page: counters and histograms added up, gauges also one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs

from xproxy.observe.histogram import Histogram
from xproxy.observe.metrics import (
    COUNTER,
    GAUGE,
    Number,
    Shown,
    StatsRegistry,
    numbers_of,
    shown_of,
)
from xproxy.observe.totals import Place, Totals, Value


@attrs.frozen(eq=False)
class Share:
    """What one process has counted, and its gauges."""

    labels: Mapping[str, str]
    """That name the process."""
    counters: Totals
    gauges: Totals


def added(shares: Sequence[Share]) -> tuple[Totals, Totals]:
    """Return the counters of all, and the gauges of all, added up."""
    counters, gauges = Totals(), Totals()
    for share in shares:
        counters.add(share.counters)
        gauges.add(share.gauges)
    return counters, gauges


def together(stats: StatsRegistry, shares: Sequence[Share], *, sums: bool) -> Iterator[Number]:
    """Give the numbers of all, in the order of one process' own page.

    ``stats``: of this process, whose numbers are in ``shares``, too; they say how each field is shown, and which are
    shown though they are 0. ``sums``: gauges are shown added up, and after that those that are not 0 by process; else
    only by process.
    """
    counters, gauges = added(shares)
    own = dict(stats.own())
    places = {*own, *(place for place, _, _ in counters), *(place for place, _, _ in gauges)}
    alike: dict[str, dict[str, Shown]] = {}
    for (kind, _), one in own.items():
        if kind not in alike:
            alike[kind] = {shown.name: shown for shown, _ in shown_of(one)}
    for place in sorted(places):
        for shown, nothing in _fields(place, own.get(place), alike, counters, gauges):
            if shown.kind != GAUGE:
                yield from numbers_of(place, shown, counters.of(place).get(shown.name, nothing))
                continue
            if sums:
                yield from numbers_of(place, shown, gauges.of(place).get(shown.name, nothing))
            for share in shares:
                value = share.gauges.of(place).get(shown.name)
                if value is not None or not sums:
                    yield from numbers_of(
                        place, shown, nothing if value is None else value, share.labels
                    )


def _fields(
    place: Place,
    own: object | None,
    alike: Mapping[str, Mapping[str, Shown]],
    counters: Totals,
    gauges: Totals,
) -> Iterator[tuple[Shown, Value]]:
    # How each field of a place is shown, and its value where nobody has one.
    known: set[str] = set()
    for shown, value in shown_of(own) if own is not None else ():
        known.add(shown.name)
        yield shown, _nothing(value)
    here = alike.get(place[0], {})
    for kind, totals in ((COUNTER, counters), (GAUGE, gauges)):
        for name, value in totals.of(place).items():
            if name not in known:
                known.add(name)
                # Of a thing that only other processes have, perhaps of a version that has more to count.
                label = "key" if isinstance(value, dict) else ""
                yield here.get(name, Shown(name, kind, name, label)), _nothing(value)


def _nothing(like: Value) -> Value:
    if isinstance(like, int):
        return 0
    return {} if isinstance(like, dict) else Histogram(like.bounds)
