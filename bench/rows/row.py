"""A row: several contenders under one load, their figures, and what we want of the ratios."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

import attrs

from bench.lab import Lab
from bench.load import Load
from bench.measure import Sample, Window, watch
from bench.processes import Process
from bench.proxies.proxy import PLAIN, Kind, Proxy, Served, Shape

Probe = Callable[[int], Sample]
"""Load the contender for so many seconds and say what was seen."""


@attrs.frozen(kw_only=True)
class Figure:
    """A column of a row."""

    key: str
    label: str
    unit: str
    digits: int = 1
    """Decimals when printed."""


@attrs.frozen(kw_only=True)
class Goal:
    """What we want of xproxy: a bound on a ratio, or on the figure itself."""

    figure: str
    """Key of the figure."""
    bound: float
    peer: str | None = None
    """The contender whose figure is the unit of the bound; None: the bound is in the figure's own unit."""
    better: Literal["lower", "higher"] = "lower"

    def met(self, value: float) -> bool:
        """Tell whether a ratio, or a figure, is at least as good as the bound."""
        return value <= self.bound if self.better == "lower" else value >= self.bound


@attrs.frozen(kw_only=True)
class Contender:
    """Somebody to be measured in a row."""

    name: str
    version: Callable[[], str]
    start: Callable[[Lab, int], AbstractContextManager[Probe]]
    """Given the upstream's port, start it and yield how to measure it. Raises Missing where it cannot be."""


@attrs.frozen(kw_only=True)
class Row:
    """One line of the table of figures."""

    key: str
    """What the command line calls it."""
    title: str
    figures: tuple[Figure, ...]
    """The first is the one that the chart shows."""
    upstream: Callable[[Lab], AbstractContextManager[int]]
    """Starts what the contenders forward to and yields its port. Raises Missing."""
    contenders: tuple[Contender, ...]
    """In the order in which a round measures them."""
    goals: tuple[Goal, ...] = ()
    warm_up: bool = True
    """Whether contenders get load before their first window."""
    note: str = ""
    """What a reader must know to read the figures."""


CPU = Figure(key="cpu_us", label="CPU per request", unit="µs")
RATE = Figure(key="per_second", label="requests/s", unit="/s", digits=0)
P50 = Figure(key="p50_ms", label="p50", unit="ms", digits=2)
P99 = Figure(key="p99_ms", label="p99", unit="ms", digits=2)
MEAN = Figure(key="mean_ms", label="mean", unit="ms", digits=2)
USE = Figure(key="cpu_use", label="CPU use", unit="%", digits=0)
PER_REQUEST = (CPU, RATE, P50, P99, USE)
PER_STREAM = (CPU, RATE, MEAN, USE)
"""Where h2load makes the load."""


def under_requests(
    proxy: Proxy,
    kind: Kind,
    load: Callable[[Lab, int, int], Load],
    *,
    name: str = "",
    shape: Shape = PLAIN,
) -> Contender:
    """Return a proxy as a contender measured by CPU per request.

    Args:
        load: what loads a port for so many seconds.
        name: what the row calls it, if not by the proxy's name.
        shape: how large its configuration is.
    """

    @contextmanager
    def start(lab: Lab, upstream: int) -> Iterator[Probe]:
        with proxy.serve(lab, kind, upstream, shape) as served:
            yield lambda seconds: _sample(lab, served, seconds)

    def _sample(lab: Lab, served: Served, seconds: int) -> Sample:
        with watch(served.process) as window:
            seen = load(lab, served.port, seconds)
        return per_request(served.process, window, seen)

    return Contender(name=name or proxy.name, version=proxy.version, start=start)


def per_request(process: Process, window: Window, seen: Load) -> Sample:
    """Return the figures of ``PER_REQUEST`` or ``PER_STREAM``: what process and load generator say of a window."""
    if not seen.requests:
        raise process.failed("answered nothing")
    return Sample(
        values={
            CPU.key: window.cpu_seconds / seen.requests * 1e6,
            RATE.key: seen.per_second,
            **latencies(seen),
            USE.key: window.cpu_seconds / window.elapsed * 100,
        },
        errors=seen.errors,
        others_cpu=window.others_cpu,
    )


def latencies(seen: Load) -> dict[str, float]:
    """Return what a load generator says of them."""
    said = ((P50, seen.p50_us), (P99, seen.p99_us), (MEAN, seen.mean_us))
    return {figure.key: value / 1e3 for figure, value in said if value is not None}
