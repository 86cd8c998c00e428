"""What a row needs of a proxy."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal, Protocol

import attrs

from bench.lab import Lab
from bench.processes import Process
from bench.tools import Missing

Kind = Literal["http1", "http2", "http2-http2", "tls", "bolt", "dubbo", "thrift", "l4"]
"""How the proxy reads what it forwards, in clear text unless it is ``tls``: HTTP/1.1 or HTTP/2, as the client wants.

The upstream speaks the same; with ``http2`` and ``tls`` it speaks HTTP/1.1.
"""


MANY = 1_000
"""Routes, hosts or clusters of a large configuration; the scripts for wrk know it too."""


@attrs.frozen(kw_only=True)
class Shape:
    """How large the configuration is, for kinds of HTTP/1.1. All clusters have the one upstream."""

    routes: int = 1
    """Told apart by path, ``/p0/…`` and so on, where there are several."""
    hosts: int = 1
    """``h0.bench.test`` and so on, where there are several."""
    clusters: int = 1
    """One for each route, or one for all."""

    def cluster(self, route: int) -> str:
        """Return the name of a route's cluster."""
        return f"upstream{route}" if self.clusters > 1 else "upstream"

    @property
    def cluster_names(self) -> list[str]:
        return [self.cluster(n) for n in range(self.clusters)]

    @property
    def prefixes(self) -> list[str]:
        """The routes' paths."""
        return [f"/p{n}/" for n in range(self.routes)] if self.routes > 1 else ["/"]

    @property
    def host_names(self) -> list[str]:
        """The hosts, or none where any will do."""
        return [f"h{n}.bench.test" for n in range(self.hosts)] if self.hosts > 1 else []


PLAIN = Shape()


@attrs.frozen(kw_only=True)
class Served:
    """A proxy that listens."""

    process: Process
    port: int


class Proxy(Protocol):
    """A proxy that can be started in front of an upstream on loopback."""

    @property
    def name(self) -> str: ...

    def version(self) -> str:
        """Return its version.

        Raises:
            Missing: it is not on this machine.
        """

    def serve(
        self, lab: Lab, kind: Kind, upstream: int, shape: Shape = PLAIN
    ) -> AbstractContextManager[Served]:
        """Run it on the CPU under test, in front of the upstream's port.

        Raises:
            Missing: it is not on this machine, or does not do this kind.
        """


def cannot(proxy: str, kind: Kind) -> Missing:
    """Return the error of a proxy asked for something it does not do."""
    return Missing(f"{proxy} has no {kind} proxy")
