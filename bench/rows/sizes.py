"""Large configurations, each part of which is used, and the other end: one request in flight."""

from __future__ import annotations

from functools import partial

from bench import upstreams
from bench.lab import Lab
from bench.load import Load, web_with_wrk
from bench.proxies.envoy import Envoy
from bench.proxies.nginx import Nginx
from bench.proxies.proxy import MANY, Shape
from bench.proxies.xproxy import Xproxy
from bench.rows.row import CPU, PER_REQUEST, Goal, Row, under_requests

_KEPT = 32
_GOALS = (Goal(figure=CPU.key, peer="envoy", bound=1.15),)
_PROXIES = (Envoy(), Xproxy(), Nginx())


def _load(lab: Lab, port: int, seconds: int, *, script: str = "", connections: int = _KEPT) -> Load:
    return web_with_wrk(lab, port, connections=connections, seconds=seconds, script=script)


def _row(key: str, what: str, shape: Shape, script: str) -> Row:
    load = partial(_load, script=script)
    return Row(
        key=key,
        title=f"HTTP/1.1 keep-alive, 1 KiB, {_KEPT} connections, {MANY:,} {what}",
        figures=PER_REQUEST,
        upstream=upstreams.web,
        contenders=tuple(under_requests(p, "http1", load, shape=shape) for p in _PROXIES),
        goals=_GOALS,
        note="each request is for the next of them",
    )


ROWS = (
    _row("routes-1000", "routes, told apart by path", Shape(routes=MANY), "wrk_paths.lua"),
    _row("hosts-1000", "hosts", Shape(hosts=MANY), "wrk_hosts.lua"),
    _row("clusters-1000", "clusters, by path", Shape(routes=MANY, clusters=MANY), "wrk_paths.lua"),
    Row(
        key="http1-1",
        title="HTTP/1.1 keep-alive, 1 KiB, one connection: one request in flight",
        figures=PER_REQUEST,
        upstream=upstreams.web,
        contenders=tuple(
            under_requests(p, "http1", partial(_load, connections=1)) for p in _PROXIES
        ),
        goals=_GOALS,
        note="nothing can be done for several requests at once, and the proxy sleeps and wakes for each",
    ),
)
