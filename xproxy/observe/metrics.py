"""Counters, gauges and histograms: plain numbers on plain objects, read only when somebody asks.

Statistics are attrs classes whose ``int`` fields count. ``stats.upstream_rq_total += 1`` is all that the hot path
does; names are Envoy's, so that existing dashboards have something to hold on to.
"""

from __future__ import annotations

import bisect
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

S = TypeVar("S")

LATENCY_BOUNDS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Upper bounds in seconds, inclusive: what a proxy adds up to what a route waits."""

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


def histogram(text: str, bounds: Sequence[float] = LATENCY_BOUNDS) -> Any:  # Any: as above
    """Declare a field that holds a Histogram."""
    return attrs.field(factory=lambda: Histogram(bounds), metadata={_HELP: text})


@final
class Histogram:
    """How often a value fell into which of the fixed buckets."""

    __slots__ = ("bounds", "counts", "total")

    bounds: Final[tuple[float, ...]]
    """Upper bounds of the buckets, inclusive, rising; values above the last have a bucket of their own."""
    counts: Final[list[int]]
    """Values in each bucket (not cumulative); one more than bounds."""
    total: float
    """The sum of all values."""

    def __init__(self, bounds: Sequence[float] = LATENCY_BOUNDS) -> None:
        if not bounds or any(a >= b for a, b in itertools.pairwise(bounds)):
            raise ValueError("the bounds of a histogram must rise")
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect.bisect_left(self.bounds, value)] += 1
        self.total += value

    def __str__(self) -> str:
        quantiles = " ".join(f"P{q * 100:g}<={self.quantile(q):g}" for q in (0.5, 0.9, 0.99))
        return f"count={self.count} sum={self.total:.6g} {quantiles}"

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    def quantile(self, share: float) -> float:
        """Return the upper bound of the bucket in which this share of all values ends; inf above the last one."""
        wanted = share * self.count
        seen = 0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            seen += count
            if seen >= wanted and seen:
                return bound
        return float("inf") if self.counts[-1] else 0.0


@final
class StatsRegistry:
    """The statistics of everything that lives, by kind (``cluster``, ``listener``, ``codec``) and name."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], object] = {}

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
        """Forget it, if it is there."""
        self._entries.pop((kind, name), None)

    def _numbers(self) -> Iterator[_Number]:
        for (kind, name), stats in sorted(self._entries.items(), key=lambda item: item[0]):
            for attribute in attrs.fields(type(stats)):  # type: ignore[arg-type]  # checked by add
                value = getattr(stats, attribute.name)
                where = _Number(kind, name, attribute, value)
                if attribute.name.startswith("_") or isinstance(value, bool):
                    continue
                if isinstance(value, int | Histogram):
                    yield where
                elif _LABEL in attribute.metadata:
                    for key, count in sorted((_label(k), n) for k, n in value.items()):
                        yield attrs.evolve(where, key=key, value=count)

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
            elif number.attribute.metadata.get(_KIND) == "gauge":
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
