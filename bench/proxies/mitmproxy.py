"""mitmproxy as a reverse proxy, printing nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import attrs

from bench import tools
from bench.lab import Lab
from bench.processes import free_port, running
from bench.proxies.proxy import PLAIN, Kind, Served, Shape, cannot


@attrs.frozen
class Mitmproxy:
    """``mitmdump``, the variant without a user interface."""

    name: str = "mitmproxy"

    def version(self) -> str:
        # "Mitmproxy: 11.0.2", and then what it is built on
        return tools.output_of(tools.mitmdump(), "--version").splitlines()[0].split()[-1]

    @contextmanager
    def serve(self, lab: Lab, kind: Kind, upstream: int, shape: Shape = PLAIN) -> Iterator[Served]:
        if kind != "http1" or shape != PLAIN:
            raise cannot(self.name, kind)
        port = free_port()
        argv: list[str] = [str(tools.mitmdump()), "--quiet"]
        argv += ["--mode", f"reverse:http://127.0.0.1:{upstream}"]
        argv += ["--listen-host", "127.0.0.1", "--listen-port", str(port)]
        argv += ["--set", "flow_detail=0", "--set", f"confdir={lab.work / 'mitmproxy'}"]
        with running(argv, name=self.name, cpu=lab.proxy_cpu, work=lab.work, port=port) as process:
            yield Served(process=process, port=port)
