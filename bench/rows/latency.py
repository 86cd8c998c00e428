"""What a proxy adds to latency at a constant rate it can easily hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bench import upstreams
from bench.lab import Lab
from bench.load import rpcload
from bench.measure import Sample, watch
from bench.processes import Process
from bench.proxies.envoy import Envoy
from bench.proxies.nginx import Nginx
from bench.proxies.proxy import Proxy
from bench.proxies.proxy_py import ProxyPy
from bench.proxies.xproxy import Xproxy
from bench.rows.row import CPU, P50, P99, Contender, Figure, Goal, Probe, Row, latencies

_RATE = 1600
_CONNECTIONS = 40
_ADDED_P50 = Figure(key="added_p50_us", label="added p50", unit="µs", digits=0)
_ADDED_P99 = Figure(key="added_p99_us", label="added p99", unit="µs", digits=0)


def _contender(proxy: Proxy) -> Contender:
    @contextmanager
    def start(lab: Lab, upstream: int) -> Iterator[Probe]:
        with proxy.serve(lab, "http1", upstream) as served:
            yield lambda seconds: _added(lab, served.process, served.port, upstream, seconds)

    return Contender(name=proxy.name, version=proxy.version, start=start)


def _added(lab: Lab, process: Process, port: int, upstream: int, seconds: int) -> Sample:
    """Measure straight at the upstream and then, at once, through the proxy."""
    direct, through = (
        _sample(lab, who, where, seconds) for who, where in ((None, upstream), (process, port))
    )
    return Sample(
        values={
            _ADDED_P50.key: (through.values[P50.key] - direct.values[P50.key]) * 1e3,
            _ADDED_P99.key: (through.values[P99.key] - direct.values[P99.key]) * 1e3,
            **through.values,
        },
        errors=direct.errors + through.errors,
        others_cpu=max(direct.others_cpu, through.others_cpu),
    )


def _sample(lab: Lab, process: Process | None, port: int, seconds: int) -> Sample:
    with watch(process) as window:
        seen = rpcload(
            lab, port, protocol="http", connections=_CONNECTIONS, seconds=seconds, rate=_RATE
        )
    return Sample(
        values={
            **latencies(seen),
            CPU.key: window.cpu_seconds / max(1, seen.requests) * 1e6,
        },
        errors=seen.errors,
        others_cpu=window.others_cpu,
    )


ROWS = (
    Row(
        key="latency",
        title=f"Latency added at {_RATE:,} requests/s, {_CONNECTIONS} connections, open loop",
        figures=(_ADDED_P50, _ADDED_P99, P50, P99, CPU),
        upstream=upstreams.web,
        contenders=tuple(_contender(p) for p in (Envoy(), Xproxy(), Nginx(), ProxyPy())),
        goals=(
            Goal(figure=_ADDED_P50.key, peer="envoy", bound=1.0),
            Goal(figure=_ADDED_P99.key, peer="envoy", bound=1.0),
        ),
        note="latency counts from when a request was due, whatever happened before; what the same load takes "
        "straight at the upstream, measured just before each window, is subtracted",
    ),
)
