"""The pages of the admin interface: what each shows, as pure functions of the runtime."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import attrs
import trio

from xproxy.admin.upgrade import PLACE, upgrade_text
from xproxy.config.dump import config_dump
from xproxy.migration.counts import endpoint_place
from xproxy.model.status import Status
from xproxy.observe.totals import Place, Value, plus
from xproxy.proxy.runtime import Runtime
from xproxy.upstream.endpoint import Endpoint, Unfit
from xproxy.upstream.membership import named

TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"
PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"

READY: Final = "/ready"
STATS: Final = "/stats"
STATS_PROMETHEUS: Final = "/stats/prometheus"
CONFIG_DUMP: Final = "/config_dump"
CLUSTERS: Final = "/clusters"
UPGRADE: Final = "/upgrade"

_COUNTED: Final = ("rq_active", "rq_total", "rq_error", "cx_active")
# Of an endpoint.


@attrs.frozen
class Page:
    """What a page answers."""

    content_type: str
    body: bytes
    status: Status = Status.OK


def index(_runtime: Runtime) -> Page:
    """List the pages."""
    lines = [f"{path:20}{(show.__doc__ or '').splitlines()[0]}" for path, show in PAGES.items()]
    return Page(TEXT, ("\n".join(lines) + "\n").encode())


def ready(runtime: Runtime) -> Page:
    """Say LIVE, or DRAINING with an unavailable status while the proxy drains."""
    if runtime.draining:
        return Page(TEXT, b"DRAINING\n", Status.UNAVAILABLE)
    return Page(TEXT, b"LIVE\n")


def stats(runtime: Runtime) -> Page:
    """Show every counter and gauge, one a line."""
    return Page(TEXT, runtime.metrics.render_text().encode())


def prometheus(runtime: Runtime) -> Page:
    """Show every counter and gauge in the Prometheus text format."""
    return Page(PROMETHEUS, runtime.metrics.render_prometheus())


def configuration(runtime: Runtime) -> Page:
    """Show the configuration in force as JSON, defaults filled in, secrets redacted."""
    assert runtime.snapshot is not None
    shown = {"generation": runtime.generation, "config": config_dump(runtime.snapshot.config)}
    return Page(JSON, json.dumps(shown, indent=2).encode() + b"\n")


def clusters(runtime: Runtime) -> Page:
    """Show each cluster's endpoints: weight, requests in flight, connections, failures, health."""
    earlier, older = runtime.metrics.earlier, runtime.metrics.older_gauges()
    lines = []
    for (place, state), endpoint in zip(endpoint_states(runtime), _endpoints(runtime), strict=True):
        own = {
            "rq_active": endpoint.active,
            "rq_total": endpoint.total,
            "rq_error": endpoint.failed,
            "cx_active": endpoint.connections,
        }
        others = {**earlier.of(place), **older.of(place)}
        lines.append(with_counts(state, {f: plus(n, others.get(f, 0)) for f, n in own.items()}))
    return Page(TEXT, "".join(lines).encode())


def endpoint_states(runtime: Runtime) -> Iterator[tuple[Place, str]]:
    """Give where the numbers of each endpoint are, and how it is, as ``clusters`` shows it."""
    assert runtime.snapshot is not None
    now = trio.current_time()
    for name, cluster in runtime.snapshot.clusters.items():
        for key, endpoint in named(cluster.endpoints):
            health = health_of(endpoint, now)
            state = f"{name}::{endpoint.address}::weight={endpoint.weight} health={health}"
            state += _why(endpoint)
            yield endpoint_place(name, key), state


def health_of(endpoint: Endpoint, now: float) -> str:
    """Say whether an endpoint is healthy, and all that speaks against it, as Envoy's health flags do; one word.

    ``now``: the trio clock.
    """
    against = [word for bit, word in _UNFIT.items() if endpoint.unfit & bit]
    against += ["failing"] if endpoint.failing_until > now else []
    against += ["degraded"] if endpoint.degraded else []
    return ",".join(against) or "healthy"


_UNFIT: Final = {
    Unfit.FAILED_CHECK: "failed_active_hc",
    Unfit.UNCHECKED: "pending_active_hc",
    Unfit.EJECTED: "failed_outlier_check",
    Unfit.DISCOVERED: "failed_discovery",
}


def _why(endpoint: Endpoint) -> str:
    said = "; ".join(one.detail for one in endpoint.checks if one.failed and one.detail)
    return f" why={json.dumps(said, ensure_ascii=False)}" if said else ""


def _endpoints(runtime: Runtime) -> Iterator[Endpoint]:
    assert runtime.snapshot is not None
    for cluster in runtime.snapshot.clusters.values():
        for _, endpoint in named(cluster.endpoints):
            yield endpoint


def with_counts(state: str, numbers: Mapping[str, Value]) -> str:
    """Return the line of an endpoint."""
    counts = (f"{field}={numbers.get(field, 0)}" for field in _COUNTED)
    return f"{state} {' '.join(counts)}\n"


def upgrade(runtime: Runtime) -> Page:
    """Show how the takeover by a new process goes, and what all that came before have moved."""
    text = upgrade_text(runtime.takeover, runtime.metrics.shown(PLACE), trio.current_time())
    return Page(TEXT, text.encode())


PAGES: Final[Mapping[str, Callable[[Runtime], Page]]] = {
    "/": index,
    READY: ready,
    STATS: stats,
    STATS_PROMETHEUS: prometheus,
    CONFIG_DUMP: configuration,
    CLUSTERS: clusters,
    UPGRADE: upgrade,
}
"""By path."""
