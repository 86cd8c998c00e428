"""proxy.py as a reverse proxy with one worker.

``--threaded``: in its default mode its reverse proxy (2.4.10) stops answering at the second request of a
kept-alive connection. It opens a new upstream connection for every request.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import attrs

from bench import tools
from bench.lab import Lab
from bench.processes import free_port, running
from bench.proxies.proxy import PLAIN, Kind, Served, Shape, cannot

_PLUGIN = """\
from proxy.http.server import ReverseProxyBasePlugin


class ToUpstream(ReverseProxyBasePlugin):
    def routes(self):
        return [(r"/$", [b"http://127.0.0.1:{upstream}/"])]
"""


@attrs.frozen
class ProxyPy:
    """The ``proxy`` command of the ``proxy.py`` package."""

    name: str = "proxy.py"

    def version(self) -> str:
        return tools.output_of(tools.proxy_py(), "--version").splitlines()[-1]

    @contextmanager
    def serve(self, lab: Lab, kind: Kind, upstream: int, shape: Shape = PLAIN) -> Iterator[Served]:
        if kind != "http1" or shape != PLAIN:
            raise cannot(self.name, kind)
        port = free_port()
        folder = lab.work / f"proxy_py-{port}"
        folder.mkdir()
        (folder / "bench_route.py").write_text(_PLUGIN.format(upstream=upstream))
        argv: list[str] = [str(tools.proxy_py()), "--threaded", "--log-level", "ERROR"]
        argv += ["--num-workers", "1", "--num-acceptors", "1"]
        argv += ["--hostname", "127.0.0.1", "--port", str(port), "--data-dir", str(folder)]
        argv += ["--enable-reverse-proxy", "--plugins", "bench_route.ToUpstream"]
        with running(
            argv,
            name=self.name,
            cpu=lab.proxy_cpu,
            work=lab.work,
            port=port,
            env={"PYTHONPATH": str(folder)},
        ) as process:
            yield Served(process=process, port=port)
