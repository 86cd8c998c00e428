"""What is allowed in a configuration but hardly meant: said as a warning, and no reason not to run."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterator, Sequence

from xproxy.config.findings import Path
from xproxy.config.never import never
from xproxy.config.schema import Config, FallbackConfig, MatchConfig, RouteConfig
from xproxy.config.shared_states import clusters_of
from xproxy.config.tls_checks import tls_oddities
from xproxy.model.address import Address


def oddities(config: Config) -> Iterator[tuple[Path, str]]:
    """Give what is allowed but hardly meant, with its path."""
    used_tables = {listener.routes for listener in config.listeners}
    used_clusters = {
        listener.fallback.cluster
        for listener in config.listeners
        if isinstance(listener.fallback, FallbackConfig)
    }
    used_clusters |= {
        listener.server_first.cluster
        for listener in config.listeners
        if listener.server_first is not None and listener.server_first.cluster is not None
    }
    named = False  # by requests
    for table, routes in config.routes.items():
        if table not in used_tables:
            yield ("routes", table), "no listener uses this route table"
        if not routes:
            yield ("routes", table), "no routes: every request is answered with not found"
        yield from _unreachable(table, routes)
        yield from never(config, table, routes)
        for index, route in enumerate(routes):
            used_clusters.update(clusters_of(route))
            named |= route.cluster_header is not None
            for name, weight in route.cluster.items() if isinstance(route.cluster, dict) else ():
                if weight == 0:
                    yield ("routes", table, index, "cluster", name), "weight 0: it is never chosen"
    for_browsers = _for_browsers(config)
    for name, cluster in config.clusters.items():
        if name not in used_clusters and not named:
            yield ("clusters", name), "no route and no listener uses this cluster"
        if cluster.codec == "same" and cluster.tls is None and name in for_browsers:
            yield (
                ("clusters", name, "codec"),
                "browsers agree on a newer HTTP with a listener that has TLS, and its endpoints must speak it then: "
                "leave `codec` out where they are ordinary web servers",
            )
        counted = Counter(str(endpoint.address) for endpoint in cluster.endpoints)
        for address, count in counted.items():
            if count > 1:
                yield ("clusters", name, "endpoints"), f"{address} stands here {count} times"
    yield from tls_oddities(config)
    if config.admin is not None and not _is_private(config.admin.address):
        yield (
            ("admin", "address"),
            "not a loopback address: anybody who reaches it may use the admin interface",
        )


def _for_browsers(config: Config) -> set[str]:
    """Return the clusters that a listener leads to which ends TLS and recognises whatever is installed."""
    tables = {
        listener.routes
        for listener in config.listeners
        if listener.tls is not None and listener.tls.certificates and listener.codecs == "auto"
    }
    routes = [route for table in tables for route in config.routes.get(table or "", ())]
    return {name for route in routes for name in clusters_of(route)}


def _unreachable(table: str, routes: Sequence[RouteConfig]) -> Iterator[tuple[Path, str]]:
    for index, route in enumerate(routes[:-1]):
        if (not route.hosts or "*" in route.hosts) and route.match == MatchConfig():
            yield (
                ("routes", table, index + 1),
                f"never reached: routes.{table}[{index}] matches everything",
            )
            return


def _is_private(address: Address) -> bool:
    if address.is_unix or address.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.host.partition("%")[0]).is_loopback
    except ValueError:
        return False
