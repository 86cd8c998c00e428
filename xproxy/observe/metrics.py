"""Counters, gauges and histograms: plain numbers on plain objects, read only when somebody asks.

Statistics are attrs classes whose ``int`` fields count. ``stats.upstream_rq_total += 1`` is all that the hot path
does; names are Envoy's, so that existing dashboards have something to hold on to.

What earlier processes counted before this one took over from them is kept apart, and added where numbers are shown:
nobody but the hot path writes into what it counts with.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar, final

import attrs
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from xproxy.model.status import Status
from xproxy.observe.histogram import LATENCY_BOUNDS, Histogram
from xproxy.observe.totals import Place, Totals, Value, plus

S = TypeVar("S")

_KIND: Final = "kind"
_HELP: Final = "help"
_LABEL: Final = "label"


def counter(text: str) -> Any:  # Any: what attrs.field returns is the field's own type to mypy
    """Declare a field that only grows, with its description; a plain ``int = 0`` is one without."""
    return attrs.field(default=0, metadata={_KIND: "counter", _HELP: text})


def gauge(text: str) -> Any:  # Any: as above
    """Declare a field that goes up and down."""
    return attrs.field(default=0, metadata={_KIND: "gauge", _HELP: text})


def counters(label: str, text: str) -> Any:  # Any: as above
    """Declare a field that counts several things apart: a dict, shown with its keys as values of ``label``."""
    return attrs.field(factory=dict, metadata={_LABEL: label, _HELP: text})


def gauges(label: str, text: str) -> Any:  # Any: as above
    """Declare a field like ``counters`` whose numbers go up and down."""
    return attrs.field(factory=dict, metadata={_KIND: "gauge", _LABEL: label, _HELP: text})


def histogram(text: str, bounds: Sequence[float] = LATENCY_BOUNDS) -> Any:  # Any: as above
    """Declare a field that holds a Histogram."""
    return attrs.field(factory=lambda: Histogram(bounds), metadata={_HELP: text})


@final
class StatsRegistry:
    """The statistics of everything that lives, by kind (``cluster``, ``listener``, ``codec``) and name."""

    def __init__(self) -> None:
        self._entries: dict[Place, object] = {}
        self.earlier = Totals()
        """What earlier processes counted, also in places that this one does not have: the next one may have them."""
        self._gauges: dict[object, Totals] = {}
        # Of older processes that have something yet, by whoever hears from them.

    def add(self, kind: str, name: str, stats: object) -> None:
        """Show ``stats``, an instance of an attrs class, under this kind and name; replaces what was there."""
        if not attrs.has(type(stats)):
            raise TypeError(f"{type(stats).__name__} is not an attrs class")
        self._entries[kind, name] = stats

    def ensure(self, kind: str, name: str, factory: Callable[[], S]) -> S:
        """Return the statistics of this kind and name, made now if need be: so that counts outlive a reload."""
        found = self._entries.get((kind, name))
        if found is None:
            found = factory()
            self.add(kind, name, found)
        return found  # type: ignore[return-value]  # one kind has one class of statistics

    def remove(self, kind: str, name: str) -> None:
        """Forget it, if it is there, with what earlier processes counted there."""
        self._entries.pop((kind, name), None)
        self.earlier.drop((kind, name))

    # ---- other processes

    def use_gauges(self, of: object, gauges: Totals | None) -> None:
        """Add these gauges of an older process to those shown, in place of the ones before; None: it has ended."""
        if gauges is None:
            self._gauges.pop(of, None)
        else:
            self._gauges[of] = gauges

    def counters(self) -> Totals:
        """Return a copy of all that only grows, with what earlier processes counted."""
        found = Totals()
        found.add(self.earlier)
        found.add(self._own("counter"))
        return found

    def gauges(self) -> Totals:
        """Return a copy of all gauges, with those of older processes."""
        found = self._older()
        found.add(self._own("gauge"))
        return found

    def _own(self, kind: str) -> Totals:
        found = Totals()
        for place, stats in self._entries.items():
            for attribute, value in _values(stats):
                if _kind_of(attribute) == kind:
                    found.put(place, attribute.name, value)
        return found

    def _older(self) -> Totals:
        found = Totals()
        for gauges in self._gauges.values():
            found.add(gauges)
        return found

    # ---- shown

    def _numbers(self) -> Iterator[_Number]:
        elsewhere = {"counter": self.earlier, "gauge": self._older()}
        for place, stats in sorted(self._entries.items(), key=lambda item: item[0]):
            for attribute, value in _values(stats):
                more = elsewhere[_kind_of(attribute)].of(place).get(attribute.name)
                shown = value if more is None else plus(value, more)
                if isinstance(shown, dict):
                    for key, count in sorted(shown.items()):
                        yield _Number(*place, attribute, count, key)
                else:
                    yield _Number(*place, attribute, shown)

    def render_text(self) -> str:
        """Return a line for each number, as Envoy's ``/stats``: ``cluster.reviews.upstream_rq_total: 5``."""
        return "".join(f"{number}\n" for number in self._numbers())

    def render_prometheus(self) -> bytes:
        """Return the Prometheus exposition: ``xproxy_<kind>_<field>`` with the label ``<kind>="<name>"``."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Families(self))
        return generate_latest(registry)

    def families(self) -> Iterator[Metric]:
        """Give one metric family for each field of each kind, with a sample for each name."""
        found: dict[str, Any] = {}  # Any: as below
        for number in self._numbers():
            labels = number.labels
            text = number.attribute.metadata.get(_HELP, number.attribute.name)
            key = f"xproxy_{number.kind}_{number.attribute.name}"
            make: Any = CounterMetricFamily  # Any: three classes whose add_metric differ
            sample: tuple[Any, ...] = (number.value,)  # Any: as above
            if isinstance(number.value, Histogram):
                make = HistogramMetricFamily
                sample = (_cumulative(number.value), number.value.total)
            elif _kind_of(number.attribute) == "gauge":
                make = GaugeMetricFamily
            family = found.setdefault(key, make(key, text, labels=list(labels)))
            family.add_metric(list(labels.values()), *sample)
        yield from found.values()


@attrs.frozen
class _Number:
    """One number of some statistics, with its place."""

    kind: str
    name: str
    attribute: attrs.Attribute[Any]  # Any: a field of any type
    value: int | Histogram
    key: str | None = None
    """The key, where the field counts several things apart."""

    @property
    def labels(self) -> dict[str, str]:
        labels = {self.kind: self.name} if self.name else {}
        if self.key is not None:
            labels[self.attribute.metadata[_LABEL]] = self.key
        return labels

    def __str__(self) -> str:
        parts = (self.kind, self.name, self.attribute.name, self.key)
        return f"{'.'.join(part for part in parts if part)}: {self.value}"


def _values(
    stats: object,
) -> Iterator[tuple[attrs.Attribute[Any], Value]]:  # Any: a field of any type
    """Give the fields that hold numbers, with copies of what they hold; labels as texts."""
    for attribute in attrs.fields(type(stats)):  # type: ignore[arg-type]  # checked by add
        value = getattr(stats, attribute.name)
        if attribute.name.startswith("_") or isinstance(value, bool):
            continue
        if isinstance(value, int):
            yield attribute, value
        elif isinstance(value, Histogram):
            yield attribute, value.copy()
        elif _LABEL in attribute.metadata:
            counted: dict[str, int] = {}
            for key, count in value.items():
                label = _label(key)
                counted[label] = counted.get(label, 0) + count
            yield attribute, counted


def _kind_of(attribute: attrs.Attribute[Any]) -> str:  # Any: as above
    return "gauge" if attribute.metadata.get(_KIND) == "gauge" else "counter"


def _label(key: object) -> str:
    return key.label if isinstance(key, Status) else str(key)


def _cumulative(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*map(str, histogram.bounds), "+Inf"]
    return list(zip(bounds, itertools.accumulate(histogram.counts), strict=True))


class _Families(Collector):
    def __init__(self, stats: StatsRegistry) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        return self._stats.families()
