"""What a process that gives still has to do with: connections, and streams whose connection has gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from xproxy.connection.shared.multiplexed import Multiplexed
from xproxy.migration.movable import name_of, relaying
from xproxy.migration.tally import Tally
from xproxy.proxy.connection import Connection
from xproxy.proxy.runtime import Runtime

PATIENCE_OVER: Final = "takeover.patience"
"""The reason for which streams and connections are cut off."""


def connections(runtime: Runtime) -> Iterator[Connection]:
    """Give all connections of clients that streams are served for here."""
    for active in runtime.every_listener:
        yield from active.connections.values()


def serves(runtime: Runtime) -> bool:
    """Say whether there is any."""
    return any(active.connections for active in runtime.every_listener)


def serving(runtime: Runtime) -> dict[str, int]:
    """Count them by protocol."""
    return dict(Counter(map(name_of, connections(runtime))))


def relayed(runtime: Runtime) -> dict[str, int]:
    """Count by protocol the streams that are served here though another process has their connection."""
    found: Counter[str] = Counter()
    for connection in connections(runtime):
        found[name_of(connection)] += relaying(connection)
    return dict(found)


def opened(runtime: Runtime) -> int:
    """Count the connections to endpoints."""
    snapshot = runtime.snapshot
    clusters = snapshot.clusters.values() if snapshot is not None else ()
    return sum(endpoint.connections for cluster in clusters for endpoint in cluster.endpoints)


def cut_off(runtime: Runtime, left: Mapping[str, int], tally: Tally) -> None:
    """Reset what is left, as patience is over, and count it by name: ``left``, by protocol, and relayed streams."""
    for name, count in left.items():
        tally.cut_off(name, PATIENCE_OVER, count)
    for connection in connections(runtime):
        if streams := relaying(connection):
            assert connection.terms is not None  # it is served
            tally.cut_off(f"{connection.terms.plugin.name} stream", PATIENCE_OVER, streams)
    for active in runtime.every_listener:
        for connection in list(active.connections.values()):
            driver = connection.driver
            if relaying(connection) and isinstance(driver, Multiplexed):
                driver.close_soon()  # whoever has it resets what is on the link, and nothing else
            else:
                connection.stream.abort()
        active.cut(f"after {PATIENCE_OVER}")
