"""Clusters that share connections on which their protocol keeps what a client said: it would hold for others too."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from xproxy.config.findings import Path
from xproxy.config.schema import Config, RouteConfig, codec_name
from xproxy.model.errors import PluginError
from xproxy.registry import CODECS, Registry


def shared_states(config: Config, registry: Registry) -> Iterator[tuple[Path, str]]:
    """Give each cluster that says ``connections: shared`` and may be spoken to in such a protocol."""
    spoken = _spoken(config)
    for name, cluster in config.clusters.items():
        if cluster.connections != "shared" or cluster.proxy_protocol is not None:
            continue
        codec = codec_name(cluster.codec)
        said = {codec} if codec not in ("auto", "same", "alpn") else spoken.get(name, set())
        for codec in sorted(said):
            if _is_stateful(registry, codec):
                yield (
                    ("clusters", name, "connections"),
                    f"{codec} keeps what a client said on a connection: shared, it holds for other clients too",
                )


def clusters_of(route: RouteConfig) -> Collection[str]:
    """Return the names of the clusters that a route leads to."""
    found: list[str] = [mirror.cluster for mirror in route.mirrors]
    if route.fallback_cluster is not None:
        found.append(route.fallback_cluster)
    match route.cluster:
        case str(name):
            found.append(name)
        case dict(weights):
            found += weights
    return found


def _spoken(config: Config) -> dict[str, set[str]]:
    """Return for each cluster the protocols that the file names; what ``auto`` may find is not doubted."""
    codecs: dict[str, set[str]] = {}
    for listener in config.listeners:
        listed = (listener.codecs,) if isinstance(listener.codecs, str) else listener.codecs
        codecs.setdefault(listener.routes or "", set()).update(map(codec_name, listed))
    found: dict[str, set[str]] = {}
    for table, names in codecs.items():
        for route in config.routes.get(table, ()):
            for cluster in clusters_of(route):
                found.setdefault(cluster, set()).update(names, route.match.protocol or ())
    return found


def _is_stateful(registry: Registry, name: str) -> bool:
    if name not in registry.names(CODECS):
        return False  # ``auto``, or a dialect such as gRPC
    try:
        return registry.codec(name).traits.stateful
    except PluginError:
        return False  # said elsewhere, where the name stands
