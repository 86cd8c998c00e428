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

from typing import Final, Protocol, final

import attrs

from xproxy.codecs.state_kinds import Kind
from xproxy.codecs.state_schema import StateRecord, StateSchema, state_field
from xproxy.observe.metrics import StatsRegistry
from xproxy.observe.totals import MOST, Totals, totals_kind
from xproxy.proxy.snapshot import Snapshot
from xproxy.upstream.membership import named


@attrs.frozen
class _Told:
    counters: Totals
    gauges: Totals


def _schema() -> StateSchema[_Told]:
    counters: Kind[Totals] = totals_kind(0)
    gauges: Kind[Totals] = totals_kind(-MOST)
    fields = state_field("counters", counters), state_field("gauges", gauges)
    return StateSchema("counts", 1, StateRecord(_Told, *fields))


_SCHEMA: Final = _schema()

ENDPOINT: Final = "endpoint"
"""The kind under which numbers of a cluster's endpoints are told; their names are ``<cluster>::<address>``."""


class Counting(Protocol):
    """A process that counts: a Runtime."""

    @property
    def metrics(self) -> StatsRegistry: ...
    @property
    def snapshot(self) -> Snapshot | None: ...


@final
class Counts:
    """What one other process knows of our counters, and what we know of its gauges.

    One for each other process; where another one takes its place (a newer generation), the same goes on.
    """

    __slots__ = ("_runtime", "_told")

    def __init__(self, runtime: Counting) -> None:
        self._runtime = runtime
        self._told = Totals()

    def absolute(self) -> bytes:
        """Return all counters and gauges: the first that the other process is told."""
        self._told = Totals()
        return self.delta()

    def delta(self) -> bytes:
        """Return by how much counters have grown since it was told last, and the gauges of now.

        It counts as told; if it cannot be sent, say so (``untold``).
        """
        now = all_counters(self._runtime)
        told = _Told(now.since(self._told), all_gauges(self._runtime))
        self._told = now
        return _SCHEMA.pack(told)

    def untold(self, data: bytes) -> None:
        """What ``absolute`` or ``delta`` gave was not sent: it is part of the next ``delta``."""
        self._told = self._told.since(_SCHEMA.unpack(data).counters)

    def add(self, data: bytes) -> None:
        """Take over what the other process tells. Raises ValueError, and nothing is added then."""
        told = _SCHEMA.unpack(data)
        self._runtime.metrics.earlier.add(told.counters)
        self._told.add(told.counters)
        self._runtime.metrics.use_gauges(self, told.gauges)

    def ended(self) -> None:
        """The other process has ended: its gauges go, its counters stay. Idempotent."""
        self._runtime.metrics.use_gauges(self, None)


def all_counters(runtime: Counting) -> Totals:
    """Return a copy of all counters of this process, with what earlier ones counted."""
    found = runtime.metrics.counters()
    snapshot = runtime.snapshot
    for cluster in snapshot.clusters.values() if snapshot is not None else ():
        ours = Totals()
        for name, endpoint in named(cluster.endpoints):
            ours.put((ENDPOINT, f"{cluster.name}::{name}"), "rq_total", endpoint.total)
            ours.put((ENDPOINT, f"{cluster.name}::{name}"), "rq_error", endpoint.failed)
        found.add(ours)
    return found


def all_gauges(runtime: Counting) -> Totals:
    """Return a copy of all gauges of this process, with those of older ones."""
    found = runtime.metrics.gauges()
    snapshot = runtime.snapshot
    for cluster in snapshot.clusters.values() if snapshot is not None else ():
        ours = Totals()
        for name, endpoint in named(cluster.endpoints):
            ours.put((ENDPOINT, f"{cluster.name}::{name}"), "rq_active", endpoint.active)
            ours.put((ENDPOINT, f"{cluster.name}::{name}"), "cx_active", endpoint.connections)
        found.add(ours)
    return found
