"""L4, one connection that carries as many bytes as it can: CPU per GiB."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bench import upstreams
from bench.lab import Lab
from bench.load import bulk
from bench.measure import Sample, watch
from bench.proxies.envoy import Envoy
from bench.proxies.nginx import Nginx
from bench.proxies.proxy import Proxy, Served
from bench.proxies.xproxy import Xproxy
from bench.rows.row import USE, Contender, Figure, Goal, Probe, Row

_CPU = Figure(key="cpu_s_per_gib", label="CPU per GiB", unit="s", digits=3)
_SPEED = Figure(key="gb_per_second", label="speed", unit="GB/s", digits=2)


def _contender(proxy: Proxy) -> Contender:
    @contextmanager
    def start(lab: Lab, upstream: int) -> Iterator[Probe]:
        with proxy.serve(lab, "l4", upstream) as served:
            yield lambda seconds: _sample(lab, served, seconds)

    return Contender(name=proxy.name, version=proxy.version, start=start)


def _sample(lab: Lab, served: Served, seconds: int) -> Sample:
    with watch(served.process) as window:
        seen = bulk(lab, served.port, seconds=seconds)
    if not seen.bytes:
        raise served.process.failed("relayed nothing")
    return Sample(
        values={
            _CPU.key: window.cpu_seconds / seen.bytes * 2**30,
            _SPEED.key: seen.bytes / seen.seconds / 1e9,
            USE.key: window.cpu_seconds / window.elapsed * 100,
        },
        errors=seen.bad,
        others_cpu=window.others_cpu,
    )


ROWS = (
    Row(
        key="bulk",
        title="L4 relay, one connection, bulk",
        figures=(_CPU, _SPEED, USE),
        upstream=upstreams.bulk,
        contenders=tuple(_contender(proxy) for proxy in (Envoy(), Xproxy(), Nginx())),
        goals=(Goal(figure=_CPU.key, peer="envoy", bound=0.5),),
    ),
)
