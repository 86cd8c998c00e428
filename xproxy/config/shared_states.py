"""Clusters that share connections on which their protocol keeps what a client said: it would hold for others too."""

from __future__ import annotations

from collections.abc import Iterator

from xproxy.config.findings import Path
from xproxy.config.schema import ClusterConfig, Config, RouteConfig, codec_name
from xproxy.model.errors import PluginError
from xproxy.registry import CODECS, Registry


def shared_states(config: Config, registry: Registry) -> Iterator[tuple[Path, str]]:
    """Give each cluster that says ``connections: shared`` and may be spoken to in such a protocol."""
    for name, cluster in config.clusters.items():
        if cluster.connections != "shared" or cluster.proxy_protocol is not None:
            continue
        for codec in sorted(_spoken(config, name, cluster)):
            if _is_stateful(registry, codec):
                yield (
                    ("clusters", name, "connections"),
                    f"{codec} keeps what a client said on a connection: shared, it holds for other clients too",
                )


def _spoken(config: Config, name: str, cluster: ClusterConfig) -> set[str]:
    """Return the protocols that the file names for a cluster; what ``auto`` may find is not doubted."""
    if (codec := codec_name(cluster.codec)) not in ("auto", "same", "alpn"):
        return {codec}
    found: set[str] = set()
    for listener in config.listeners:
        routes = [r for r in config.routes.get(listener.routes or "", ()) if _leads_to(r, name)]
        if routes:
            codecs = listener.codecs
            found |= {codec_name(c) for c in ((codecs,) if isinstance(codecs, str) else codecs)}
        for route in routes:
            found |= set(route.match.protocol or ())
    return found


def _leads_to(route: RouteConfig, cluster: str) -> bool:
    named = route.cluster
    return cluster == named or (isinstance(named, dict) and cluster in named)


def _is_stateful(registry: Registry, name: str) -> bool:
    if name not in registry.names(CODECS):
        return False  # ``auto``, or a dialect such as gRPC
    try:
        return registry.codec(name).traits.stateful
    except PluginError:
        return False  # said elsewhere, where the name stands
