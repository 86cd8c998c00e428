"""Counters of two processes that add up to what happened, while one takes over from the other.

What another process knows of our counters is remembered for it: it is told everything once (``absolute``), and then
by how much they have grown (``delta``). What it tells us is added here, and is known to it. So nothing is counted
twice or lost, whoever tells whom, how often, and in whatever order; and with several generations each number is told
to one of them, which tells the next.

Gauges are told as they are. Those of an older process are shown added to ours, until it has ended.

Each thing is counted by one process: a connection once, as opened, by the one that accepted it, and as active by the
one that has its socket; a request by the one that has its stream.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import Final, Protocol, TypeAlias, final

import attrs

from xproxy.codecs.state_kinds import Kind
from xproxy.codecs.state_schema import StateRecord, StateSchema, state_field
from xproxy.observe.histogram import Histogram
from xproxy.observe.metrics import COUNTER, GAUGE, StatsRegistry, mark_of, values_of
from xproxy.observe.totals import MOST, Place, Totals, Value, grown, plus, totals_kind
from xproxy.proxy.snapshot import Snapshot
from xproxy.transport.breather import at_once
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.membership import named


@attrs.frozen
class _Message:
    counters: Totals
    gauges: Totals


def _schema() -> StateSchema[_Message]:
    counters: Kind[Totals] = totals_kind(0)
    gauges: Kind[Totals] = totals_kind(-MOST)
    fields = state_field("counters", counters), state_field("gauges", gauges)
    return StateSchema("counts", 1, StateRecord(_Message, *fields))


_SCHEMA: Final = _schema()

ENDPOINT: Final = "endpoint"
"""The kind under which numbers of a cluster's endpoints are told; their names are ``<cluster>::<address>``."""


_Read: TypeAlias = tuple[Place, str, str, Value]
"""Place, field, kind and value of a number."""


class Counting(Protocol):
    """A process that counts: a Runtime."""

    @property
    def metrics(self) -> StatsRegistry: ...
    @property
    def snapshot(self) -> Snapshot | None: ...


@final
class Counts:
    """What one other process knows of our counters, and what we know of its.

    One for each other process, made when that is first heard of; where a newer one takes its place, the same goes on:
    see ``teller``.
    """

    __slots__ = ("__weakref__", "_gauges", "_heard", "_marks", "_runtime", "_told", "_whole")

    def __init__(self, runtime: Counting) -> None:
        self._runtime = runtime
        self._heard = Totals()
        # Of third processes, and what could not be sent.
        self._marks: dict[Place, object] = {}
        self._told: dict[Place, dict[str, Value]] = {}
        self._gauges: dict[Place, list[tuple[Place, str, Value]]] = {}
        # Of our own, by where they are: what it was when it was last told, as a whole and by counter, and each gauge
        # that is not 0. Where nothing has changed nothing is computed.
        self._whole = True
        # Nothing has been told.
        runtime.metrics.join(self)

    # ---- told

    def tell(self) -> bytes:
        """Return what the other process does not know: ``absolute`` first, and then ``delta``."""
        return at_once(self.telling_more())

    def telling_more(self) -> Generator[None, None, bytes]:
        """Do so in small steps, as ``telling``."""
        return self.telling(whole=self._whole)

    def absolute(self) -> bytes:
        """Return all counters and gauges: the first that the other process is told."""
        return at_once(self.telling(whole=True))

    def delta(self) -> bytes:
        """Return by how much counters have grown since it was told last, and the gauges of now.

        It counts as told; if it cannot be sent, say so (``untold``).
        """
        return at_once(self.telling())

    def telling(self, *, whole: bool = False) -> Generator[None, None, bytes]:
        """Do what ``delta`` does, or ``absolute`` if ``whole``, in small steps: see ``unhurried``. One at a time.

        5,000 clusters take some 50 ms, and 500 ms where all of their numbers have changed. Where it is broken off,
        what it had read by then is told the next time.
        """
        if whole:
            self._marks.clear()
            self._told.clear()
            self._gauges.clear()
            self._heard = Totals()
            self._heard.add(self._runtime.metrics.earlier)
        counters, self._heard = self._heard, Totals()
        try:
            yield from self._grown(counters)
        except GeneratorExit:
            counters.add(self._heard)  # what others have told since
            self._heard = counters
            raise
        self._whole = False
        gauges = self._runtime.metrics.older_gauges()
        gauges.add(self._own_gauges())
        return _SCHEMA.pack(_Message(counters, gauges))

    def untold(self, data: bytes) -> None:
        """What ``absolute`` or ``delta`` gave was not sent: it is part of the next ``delta``."""
        self._heard.add(_SCHEMA.unpack(data).counters)

    def _grown(self, found: Totals) -> Generator[None, None, None]:
        here: set[Place] = set()
        for source, mark, values in _sources(self._runtime):
            here.add(source)
            if self._marks.get(source) != mark:
                self._marks[source] = mark
                self._read(source, values(), found)
            yield
        for source in [one for one in self._gauges if one not in here]:
            del self._gauges[source]

    def _read(self, source: Place, values: Iterator[_Read], found: Totals) -> None:
        gauges = self._gauges[source] = []
        for place, field, kind, value in values:
            if kind == GAUGE:
                if value:
                    gauges.append((place, field, value))
                continue
            told = self._told.setdefault(place, {})
            if value or field in told:
                more = grown(value, told.get(field))
                told[field] = value
                if more is not None:
                    before = found.of(place).get(field)
                    found.put(place, field, more if before is None else plus(before, more))

    def _own_gauges(self) -> Totals:
        found = Totals()
        for gauges in self._gauges.values():
            for place, field, value in gauges:
                found.put(place, field, value)
        return found

    @property
    def has_told(self) -> bool:
        """The other process has been told everything once: what we count, it shows."""
        return not self._whole

    # ---- heard

    def add(self, data: bytes) -> None:
        """Take over what the other process tells. Raises ValueError, and nothing is added then."""
        message = _SCHEMA.unpack(data)
        self._runtime.metrics.hear(message.counters, self)
        self._runtime.metrics.use_gauges(self, message.gauges)

    def heard(self, counters: Totals) -> None:
        """See Hearer: the other process does not know them."""
        self._heard.add(counters)

    def ended(self) -> None:
        """The other process has ended: its gauges go, its counters stay. Idempotent."""
        self._runtime.metrics.leave(self)

    def give_back(self) -> None:
        """Tell the other process, which gets back what it gave us, what we have counted, and not what it told us."""
        self._whole = False
        self._runtime.metrics.teller = self

    def lost(self) -> None:
        """The other process has ended, and with it all that it was told: the next one is told everything."""
        self.ended()
        if self._runtime.metrics.teller is self:
            self._runtime.metrics.teller = None


def teller(runtime: Counting) -> Counts:
    """Return what tells the numbers of this process to the one that takes over, or to the one after that.

    The same one as long as what it told is known somewhere: until it is ``lost``. So where a process has streams
    left, and the one that took over from it was taken over itself, the newest is told no more than the difference.
    """
    found = runtime.metrics.teller
    if not isinstance(found, Counts):
        found = runtime.metrics.teller = Counts(runtime)
    return found


def standing(
    runtime: Counting, wanted: Callable[[Place], bool]
) -> Generator[None, None, tuple[Totals, Totals]]:
    """Return the counters and the gauges of this process, of the places that are wanted, in small steps.

    Of endpoints, too (``ENDPOINT``). With the counters is what earlier processes counted there; there are none where
    they are told to a newer process, which shows them: so those of all processes add up to what has happened, with
    what an older one has counted since it was last told being shown at most a second later.
    """
    counters, gauges = Totals(), Totals()
    teller = runtime.metrics.teller
    shown_elsewhere = isinstance(teller, Counts) and teller.has_told
    earlier = runtime.metrics.earlier
    for source, _mark, values in _sources(runtime):
        if wanted(source):
            for place, field, kind, value in values():
                if kind == GAUGE:
                    if value:
                        gauges.put(place, field, value)
                elif not shown_elsewhere:
                    before = earlier.of(place).get(field)
                    total = value if before is None else plus(value, before)
                    if not _is_nothing(total):
                        counters.put(place, field, total)
        yield
    return counters, gauges


def _is_nothing(value: Value) -> bool:
    return not (value.count if isinstance(value, Histogram) else value)


def _sources(runtime: Counting) -> Iterator[tuple[Place, object, Callable[[], Iterator[_Read]]]]:
    # Where numbers are, what is another one if any of them is, and what gives them. While somebody goes through them
    # others may come and go.
    for place, stats in list(runtime.metrics.own()):
        yield place, mark_of(stats), partial(_of_stats, place, stats)
    snapshot = runtime.snapshot
    for cluster in snapshot.clusters.values() if snapshot is not None else ():
        endpoints = cluster.endpoints
        numbers = [(e.total, e.failed, e.active, e.connections) for e in endpoints]
        values = partial(_of_endpoints, cluster.name, endpoints)
        yield (ENDPOINT, cluster.name), (endpoints, numbers), values


def _of_stats(place: Place, stats: object) -> Iterator[_Read]:
    for field, kind, value in values_of(stats):
        yield place, field, kind, value


def _of_endpoints(cluster: str, endpoints: Sequence[Endpoint]) -> Iterator[_Read]:
    for name, endpoint in named(endpoints):
        place = endpoint_place(cluster, name)
        yield place, "rq_total", COUNTER, endpoint.total
        yield place, "rq_error", COUNTER, endpoint.failed
        yield place, "rq_active", GAUGE, endpoint.active
        yield place, "cx_active", GAUGE, endpoint.connections


def endpoint_place(cluster: str, endpoint: str) -> Place:
    """Return where the numbers of an endpoint are told: ``endpoint`` is its name (``membership.named``)."""
    return ENDPOINT, f"{cluster}::{endpoint}"
