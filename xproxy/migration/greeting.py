"""The first word of a process: what it is, which states it reads and writes, and what it has room for."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from xproxy.codecs.api import SupportsStateVersions, supports
from xproxy.connection.shared.multiplexed import Multiplexed
from xproxy.migration.messages import (
    MOST_STATES,
    MOST_VERSIONS,
    TLS,
    VERSIONS,
    Hello,
    StateVersions,
)
from xproxy.migration.serving import connections, opened
from xproxy.proxy.runtime import Runtime
from xproxy.registry import CODECS, Registry
from xproxy.transport.descriptors import in_use, limit
from xproxy.transport.tls.state import VERSIONS as TLS_VERSIONS


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
        used=in_use() or len(runtime.poller),
        rehearsal=rehearsal,
        to_come=to_come(runtime),
        states=state_versions(runtime.registry),
    )


def to_come(runtime: Runtime) -> int:
    """Return how many descriptors go along if all moves: clients' connections, those to endpoints, and links."""
    found = opened(runtime)
    for connection in connections(runtime):
        driver = connection.driver
        found += 1 + (isinstance(driver, Multiplexed) and driver.streams > 0)
    return found


def state_versions(registry: Registry) -> tuple[StateVersions, ...]:
    """Return what can be said of the codecs that are installed without loading any."""
    loaded = registry.loaded(CODECS)
    found = [_said(TLS, TLS_VERSIONS)]
    for name in registry.names(CODECS)[: MOST_STATES - 1]:
        plugin = loaded.get(name)
        said = plugin.state_versions if supports(plugin, SupportsStateVersions) else ()
        found.append(_said(name, said))
    return tuple(found)


def _said(name: str, versions: tuple[int, ...]) -> StateVersions:
    if not versions:
        return StateVersions(name=name)
    return StateVersions(name=name, writes=versions[-1], reads=versions[-MOST_VERSIONS:])
