"""The first word of a process: what it is, and what it has room for."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from xproxy.migration.messages import VERSIONS, Hello
from xproxy.proxy.runtime import Runtime
from xproxy.transport.descriptors import limit


def greet(runtime: Runtime, *, rehearsal: bool = False) -> Hello:
    """Return it. ``rehearsal``: nothing is to move."""
    try:
        software = f"xproxy {version('xproxy')}"
    except PackageNotFoundError:  # run from a folder
        software = "xproxy"
    return Hello(
        versions=VERSIONS,
        software=software,
        descriptors=limit(),
        used=len(runtime.poller),
        rehearsal=rehearsal,
    )
