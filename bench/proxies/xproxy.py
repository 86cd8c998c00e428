"""xproxy itself: one process, automatic detection, two filters, no access log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import attrs

from bench import tools
from bench.certificate import certificate
from bench.lab import Lab
from bench.processes import free_port, running
from bench.proxies.proxy import Kind, Served

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
    - cluster: upstream{timeout}
clusters:
  upstream:
    endpoints: [127.0.0.1:{upstream}]{codec}
"""


@attrs.frozen
class Xproxy:
    """The xproxy of this source tree, or of the environment it is run in."""

    name: str = "xproxy"
    filters: tuple[str, ...] = ("request_id", "forwarded")

    def version(self) -> str:
        return "this tree"

    @contextmanager
    def serve(self, lab: Lab, kind: Kind, upstream: int) -> Iterator[Served]:
        port = free_port()
        config = lab.work / f"xproxy-{port}.yaml"
        config.write_text(
            _CONFIG.format(
                port=port,
                upstream=upstream,
                codecs="[opaque]" if kind == "l4" else "auto",
                filters="" if kind == "l4" else ", ".join(self.filters),
                timeout="\n      timeout: 0" if kind == "l4" else "",
                tls=_tls(lab) if kind == "tls" else "",
                codec="\n    codec: http1" if kind in ("http2", "tls") else "",
            )
        )
        with running(
            [lab.python, "-m", "xproxy", "run", "-c", config],
            name=self.name,
            cpu=lab.proxy_cpu,
            work=lab.work,
            port=port,
            cwd=tools.HERE.parent,
        ) as process:
            yield Served(process=process, port=port)


def _tls(lab: Lab) -> str:
    shown = certificate(lab.work)
    pair = f"{{cert: {shown.chain}, key: {shown.key}}}"
    return f"\n    tls: {{mode: strict, certificates: [{pair}]}}"
