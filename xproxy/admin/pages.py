"""The pages of the admin interface: what each shows, as pure functions of the runtime."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final

import attrs
import trio

from xproxy.admin.upgrade import PLACE, upgrade_text
from xproxy.config.dump import config_dump
from xproxy.migration.counts import endpoint_place
from xproxy.model.status import Status
from xproxy.observe.totals import Value
from xproxy.proxy.runtime import Runtime
from xproxy.upstream.membership import named

TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"
PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"


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
    assert runtime.snapshot is not None
    now = trio.current_time()
    earlier, older = runtime.metrics.earlier, runtime.metrics.older_gauges()
    lines = []
    for name, cluster in runtime.snapshot.clusters.items():
        for key, endpoint in named(cluster.endpoints):
            place = endpoint_place(name, key)
            others = {**earlier.of(place), **older.of(place)}

            def count(field: str, here: int, others: Mapping[str, Value] = others) -> str:
                there = others.get(field, 0)
                return f"{field}={here + there if isinstance(there, int) else here}"

            health = "failing" if endpoint.failing_until > now else "healthy"
            lines.append(
                f"{name}::{endpoint.address}::weight={endpoint.weight} health={health}"
                f" {count('rq_active', endpoint.active)} {count('rq_total', endpoint.total)}"
                f" {count('rq_error', endpoint.failed)} {count('cx_active', endpoint.connections)}\n"
            )
    return Page(TEXT, "".join(lines).encode())


def upgrade(runtime: Runtime) -> Page:
    """Show how the takeover by a new process goes, and what all that came before have moved."""
    text = upgrade_text(runtime.takeover, runtime.metrics.shown(PLACE), trio.current_time())
    return Page(TEXT, text.encode())


PAGES: Final[Mapping[str, Callable[[Runtime], Page]]] = {
    "/": index,
    "/ready": ready,
    "/stats": stats,
    "/stats/prometheus": prometheus,
    "/config_dump": configuration,
    "/clusters": clusters,
    "/upgrade": upgrade,
}
"""By path."""
