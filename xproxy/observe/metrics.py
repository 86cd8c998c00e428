"""Counters, gauges and histograms: plain numbers on plain objects, read only when somebody asks.

Statistics are attrs classes whose ``int`` fields count. ``stats.upstream_rq_total += 1`` is all that the hot path
does; names are Envoy's, so that existing dashboards have something to hold on to.

What earlier processes counted before this one took over from them is kept apart, and added where numbers are shown:
nobody but the hot path writes into what it counts with.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, Protocol, TypeVar, final
from weakref import WeakSet

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

COUNTER: Final = "counter"
GAUGE: Final = "gauge"

_KIND: Final = "kind"
_HELP: Final = "help"
_LABEL: Final = "label"


def counter(text: str) -> Any:  # Any: what attrs.field returns is the field's own type to mypy
    """Declare a field that only grows, with its description; a plain ``int = 0`` is one without."""
    return attrs.field(default=0, metadata={_KIND: COUNTER, _HELP: text})


def gauge(text: str) -> Any:  # Any: as above
    """Declare a field that goes up and down."""
    return attrs.field(default=0, metadata={_KIND: GAUGE, _HELP: text})


def counters(label: str, text: str) -> Any:  # Any: as above
    """Declare a field that counts several things apart: a dict, shown with its keys as values of ``label``."""
    return attrs.field(factory=dict, metadata={_LABEL: label, _HELP: text})


def gauges(label: str, text: str) -> Any:  # Any: as above
    """Declare a field like ``counters`` whose numbers go up and down."""
    return attrs.field(factory=dict, metadata={_KIND: GAUGE, _LABEL: label, _HELP: text})


def histogram(text: str, bounds: Sequence[float] = LATENCY_BOUNDS) -> Any:  # Any: as above
    """Declare a field that holds a Histogram."""
    return attrs.field(factory=lambda: Histogram(bounds), metadata={_HELP: text})


class Hearer(Protocol):
    """Whoever exchanges numbers with one other process."""

    def heard(self, counters: Totals) -> None:
        """A third process has told of these."""
        ...


@final
class StatsRegistry:
    """The statistics of everything that lives, by kind (``cluster``, ``listener``, ``codec``) and name."""

    def __init__(self) -> None:
        self._entries: dict[Place, object] = {}
        self.earlier = Totals()
        """What earlier processes counted, also in places that this one does not have: the next one may have them."""
        self._gauges: dict[Hearer, Totals] = {}
        # Of older processes that have something yet, by whoever hears from them.
        self._hearers: WeakSet[Hearer] = WeakSet()
        self.teller: Hearer | None = None
        """Whoever tells these numbers to the process that has taken over; None: none has."""

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

    def hear(self, counters: Totals, by: Hearer) -> None:
        """Add what another process counted; all that join tell it on, but who heard it."""
        self.earlier.add(counters)
        for hearer in self._hearers:
            if hearer is not by:
                hearer.heard(counters)

    def join(self, hearer: Hearer) -> None:
        """Let ``hearer`` hear what other processes counted, from now on and as long as somebody else has it."""
        self._hearers.add(hearer)

    def leave(self, hearer: Hearer) -> None:
        """End what ``join`` began, and forget the gauges that came by ``hearer``. Idempotent."""
        self._hearers.discard(hearer)
        self._gauges.pop(hearer, None)

    def use_gauges(self, by: Hearer, gauges: Totals) -> None:
        """Add these gauges of an older process to those shown, in place of the ones before that came by ``by``."""
        self._gauges[by] = gauges

    def older_gauges(self) -> Totals:
        """Return the gauges of older processes, added up."""
        found = Totals()
        for gauges in self._gauges.values():
            found.add(gauges)
        return found

    def own(self) -> Iterator[tuple[Place, object]]:
        """Give all statistics of this process, by place."""
        yield from self._entries.items()

    def shown(self, place: Place) -> dict[str, Value]:
        """Return the values of one place by field, with those of other processes; empty if it is not here."""
        stats = self._entries.get(place)
        if stats is None:
            return {}
        elsewhere = self._elsewhere()
        return {attribute.name: value for attribute, value in _added(place, stats, elsewhere)}

    def _elsewhere(self) -> Mapping[str, Totals]:
        return {COUNTER: self.earlier, GAUGE: self.older_gauges()}

    # ---- shown

    def _numbers(self) -> Iterator[Number]:
        elsewhere = self._elsewhere()
        for place, stats in sorted(self._entries.items(), key=lambda item: item[0]):
            fields = _shown(type(stats))
            for attribute, value in _added(place, stats, elsewhere):
                yield from numbers_of(place, fields[attribute.name], value)

    def render_text(self) -> str:
        """Return a line for each number, as Envoy's ``/stats``: ``cluster.reviews.upstream_rq_total: 5``."""
        return text_of(self._numbers())

    def render_prometheus(self) -> bytes:
        """Return the Prometheus exposition: ``xproxy_<kind>_<field>`` with the label ``<kind>="<name>"``."""
        return prometheus_of(self._numbers())


@attrs.frozen
class Shown:
    """How the numbers of one field are shown."""

    name: str
    kind: str
    """``COUNTER``, also of histograms, or ``GAUGE``."""
    text: str
    label: str
    """What the keys are values of, where the field counts several things apart."""

    @classmethod
    def of(cls, attribute: attrs.Attribute[Any]) -> Shown:  # Any: a field of any type
        metadata = attribute.metadata
        text, label = metadata.get(_HELP, attribute.name), metadata.get(_LABEL, "")
        return cls(attribute.name, _kind_of(attribute), text, label)


@attrs.frozen
class Number:
    """One number of some statistics, with its place."""

    kind: str
    name: str
    shown: Shown
    value: int | Histogram
    key: str | None = None
    """The key, where the field counts several things apart."""
    process: Mapping[str, str] = attrs.field(factory=dict)
    """Labels that say of which process it is, where that is to be shown."""

    @property
    def labels(self) -> dict[str, str]:
        labels = {self.kind: self.name} if self.name else {}
        if self.key is not None:
            labels[self.shown.label] = self.key
        return {**labels, **self.process}

    def __str__(self) -> str:
        parts = (self.kind, self.name, self.shown.name, self.key)
        process = ",".join(f"{label}={value}" for label, value in self.process.items())
        of = f"{{{process}}}" if process else ""
        return f"{'.'.join(part for part in parts if part)}{of}: {self.value}"


def numbers_of(
    place: Place, shown: Shown, value: Value, process: Mapping[str, str] | None = None
) -> Iterator[Number]:
    """Give the numbers that a value of a field consists of, by key."""
    if isinstance(value, dict):
        for key, count in sorted(value.items()):
            yield Number(*place, shown, count, key, process or {})
    else:
        yield Number(*place, shown, value, None, process or {})


def shown_of(stats: object) -> Iterator[tuple[Shown, Value]]:
    """Give each field of some statistics that holds numbers, with a copy of its value."""
    fields = _shown(type(stats))
    for attribute, value in _values(stats):
        yield fields[attribute.name], value


_fields_shown: Final[dict[type, dict[str, Shown]]] = {}
# By class of statistics, of which there are few.


def _shown(of: type) -> dict[str, Shown]:
    found = _fields_shown.get(of)
    if found is None:
        found = _fields_shown[of] = {one.name: Shown.of(one) for one in _attributes(of)}
    return found


def text_of(numbers: Iterable[Number]) -> str:
    """Return a line for each number: ``cluster.reviews.upstream_rq_total: 5``."""
    return "".join(f"{number}\n" for number in numbers)


def prometheus_of(numbers: Iterable[Number]) -> bytes:
    """Return them as Prometheus reads them: ``xproxy_<kind>_<field>`` with the label ``<kind>="<name>"``."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(numbers))
    return generate_latest(registry)


def _families(numbers: Iterable[Number]) -> Iterator[Metric]:
    """Give one metric family for each field of each kind, with a sample for each name."""
    found: dict[str, Any] = {}  # Any: as below
    for number in numbers:
        labels = number.labels
        key = f"xproxy_{number.kind}_{number.shown.name}"
        make: Any = CounterMetricFamily  # Any: three classes whose add_metric differ
        sample: tuple[Any, ...] = (number.value,)  # Any: as above
        if isinstance(number.value, Histogram):
            make = HistogramMetricFamily
            sample = (_cumulative(number.value), number.value.total)
        elif number.shown.kind == GAUGE:
            make = GaugeMetricFamily
        family = found.setdefault(key, make(key, number.shown.text, labels=list(labels)))
        family.add_metric(list(labels.values()), *sample)
    yield from found.values()


def _added(
    place: Place, stats: object, elsewhere: Mapping[str, Totals]
) -> Iterator[tuple[attrs.Attribute[Any], Value]]:  # Any: a field of any type
    for attribute, value in _values(stats):
        more = elsewhere[_kind_of(attribute)].of(place).get(attribute.name)
        yield attribute, value if more is None else plus(value, more)


def values_of(stats: object) -> Iterator[tuple[str, str, Value]]:
    """Give name, kind (``COUNTER``, ``GAUGE``) and a copy of the value of each field that holds numbers."""
    for attribute, value in _values(stats):
        yield attribute.name, _kind_of(attribute), value


def mark_of(stats: object) -> object:
    """Return what is another one if any number of ``stats`` is. Cheap: there are thousands of statistics."""
    read, held = _layout(stats)
    scalars = read(stats)
    if not held:
        return scalars
    return scalars, [
        dict(one) if isinstance(one, dict) else tuple(one.counts)
        for one in [getattr(stats, name) for name in held]
    ]


_layouts: Final[dict[type, tuple[Callable[[object], object], list[str]]]] = {}
# By class of statistics, of which there are few: how to read the plain fields, and which others it has.


def _layout(stats: object) -> tuple[Callable[[object], object], list[str]]:
    found = _layouts.get(type(stats))
    if found is None:
        names = [attribute.name for attribute, _ in _values(stats)]
        held = [name for name in names if isinstance(getattr(stats, name), dict | Histogram)]
        plain = [name for name in names if name not in held]
        read = attrgetter(*plain) if plain else _nothing
        found = _layouts[type(stats)] = read, held
    return found


def _nothing(_stats: object) -> None:
    return None


def _values(
    stats: object,
) -> Iterator[tuple[attrs.Attribute[Any], Value]]:  # Any: a field of any type
    """Give the fields that hold numbers, with copies of what they hold; labels as texts."""
    for attribute in _attributes(type(stats)):
        value = getattr(stats, attribute.name)
        if isinstance(value, bool):
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


_public: Final[dict[type, list[attrs.Attribute[Any]]]] = {}  # Any: as above
# The fields of each class of statistics, of which there are few.


def _attributes(of: type) -> list[attrs.Attribute[Any]]:  # Any: as above
    found = _public.get(of)
    if found is None:
        fields: tuple[attrs.Attribute[Any], ...] = attrs.fields(of)  # Any: as above
        found = _public[of] = [one for one in fields if not one.name.startswith("_")]
    return found


def _kind_of(attribute: attrs.Attribute[Any]) -> str:  # Any: as above
    return GAUGE if attribute.metadata.get(_KIND) == GAUGE else COUNTER


def _label(key: object) -> str:
    return key.label if isinstance(key, Status) else str(key)


def _cumulative(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*map(str, histogram.bounds), "+Inf"]
    return list(zip(bounds, itertools.accumulate(histogram.counts), strict=True))


class _Families(Collector):
    def __init__(self, numbers: Iterable[Number]) -> None:
        self._numbers = numbers

    def collect(self) -> Iterator[Metric]:
        return _families(self._numbers)
