"""xproxy itself: one process, automatic detection, two filters, no access log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import attrs

from bench.certificate import certificate
from bench.lab import Lab
from bench.processes import free_port, running
from bench.proxies.proxy import PLAIN, Kind, Served, Shape

_CONFIG = """\
listeners:
  - name: edge
    address: 127.0.0.1:{port}
    codecs: {codecs}
    filters: [{filters}]
    backlog: 4096{tls}
    routes: main
routes:
  main:
{table}clusters:
{clusters}"""

_CODECS: Mapping[Kind, str] = {
    "http2": ", codec: http1",
    "tls": ", codec: http1",
    "http2-http2": ", codec: http2",
}
"""Said where a default would do, too: an older checkout may have another."""


@attrs.frozen
class Xproxy:
    """The xproxy of this source tree, or of the environment it is run in."""

    name: str = "xproxy"
    filters: tuple[str, ...] = ("request_id", "forwarded")

    def version(self) -> str:
        return "this tree"

    @contextmanager
    def serve(self, lab: Lab, kind: Kind, upstream: int, shape: Shape = PLAIN) -> Iterator[Served]:
        port = free_port()
        config = lab.work / f"xproxy-{port}.yaml"
        codec = _CODECS.get(kind, "")
        config.write_text(
            _CONFIG.format(
                port=port,
                codecs="[opaque]" if kind == "l4" else "auto",
                filters="" if kind == "l4" else ", ".join(self.filters),
                table=_table(shape, ", timeout: 0" if kind == "l4" else ""),
                tls=_tls(lab) if kind == "tls" else "",
                clusters="".join(
                    f"  {name}: {{endpoints: ['127.0.0.1:{upstream}']{codec}}}\n"
                    for name in shape.cluster_names
                ),
            )
        )
        with running(
            [lab.python, "-m", "xproxy", "run", "-c", config],
            name=self.name,
            cpu=lab.proxy_cpu,
            work=lab.work,
            port=port,
            cwd=lab.tree,
        ) as process:
            yield Served(process=process, port=port)


def _table(shape: Shape, timeout: str) -> str:
    """Return the routes: for each host all paths."""
    lines = []
    for host in shape.host_names or [""]:
        for n, prefix in enumerate(shape.prefixes):
            hosts = f"hosts: ['{host}'], " if host else ""
            match = f"match: {{path: {{prefix: {prefix}}}}}, " if prefix != "/" else ""
            lines.append(f"    - {{{hosts}{match}cluster: {shape.cluster(n)}{timeout}}}\n")
    return "".join(lines)


def _tls(lab: Lab) -> str:
    shown = certificate(lab.work)
    pair = f"{{cert: {shown.chain}, key: {shown.key}}}"
    return f"\n    tls: {{mode: strict, certificates: [{pair}]}}"
