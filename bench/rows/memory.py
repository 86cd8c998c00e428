"""Many idle connections, each of which had one request answered: resident memory per connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bench import tools, upstreams
from bench.lab import Lab
from bench.load import held_connections
from bench.measure import Sample, watch
from bench.processes import fetch
from bench.proxies.envoy import Envoy
from bench.proxies.nginx import Nginx
from bench.proxies.proxy import Proxy
from bench.proxies.xproxy import Xproxy
from bench.rows.row import Contender, Figure, Goal, Probe, Row

_EACH = Figure(key="kib_each", label="memory per idle connection", unit="KiB")
_EMPTY = Figure(key="empty_mib", label="without connections", unit="MiB")
_FULL = Figure(key="full_mib", label="with all", unit="MiB")
_OPEN = Figure(key="open", label="connections", unit="", digits=0)


def _contender(proxy: Proxy) -> Contender:
    @contextmanager
    def start(lab: Lab, upstream: int) -> Iterator[Probe]:
        tools.rpcload()
        proxy.version()
        yield lambda _seconds: _sample(lab, proxy, upstream)

    return Contender(name=proxy.name, version=proxy.version, start=start)


def _sample(lab: Lab, proxy: Proxy, upstream: int) -> Sample:
    """Measure a fresh process: memory that connections have left behind would hide the next ones'."""
    with proxy.serve(lab, "http1", upstream) as served:
        fetch(served.port)
        with watch(served.process) as window:
            empty = served.process.rss_kib
            with held_connections(lab, served.port, lab.idle_connections) as held:
                full = served.process.rss_kib
    return Sample(
        values={
            _EACH.key: (full - empty) / max(1, held.ready),
            _EMPTY.key: empty / 1024,
            _FULL.key: full / 1024,
            _OPEN.key: held.ready,
        },
        errors=held.errors + held.mismatches + lab.idle_connections - held.answered,
        others_cpu=window.others_cpu,
    )


ROWS = (
    Row(
        key="memory",
        title="Idle keep-alive connections",
        figures=(_EACH, _EMPTY, _FULL, _OPEN),
        upstream=upstreams.web,
        contenders=tuple(_contender(proxy) for proxy in (Envoy(), Xproxy(), Nginx())),
        goals=(Goal(figure=_EACH.key, peer="envoy", bound=1.0),),
        warm_up=False,
        note="resident memory of the process tree; what the kernel holds for the sockets is not in it",
    ),
)
