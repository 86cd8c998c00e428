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

    def serve(self, lab: Lab, kind: Kind, upstream: int) -> AbstractContextManager[Served]:
        """Run it on the CPU under test, in front of the upstream's port.

        Raises:
            Missing: it is not on this machine, or does not do this kind.
        """


def cannot(proxy: str, kind: Kind) -> Missing:
    """Return the error of a proxy asked for something it does not do."""
    return Missing(f"{proxy} has no {kind} proxy")
