"""Checks that need more than one value: names that must exist, keys that exclude each other, totals.

They look at what was written, not at what could be built of it, so that one mistake does not hide another.
"""

from __future__ import annotations

import functools
import ipaddress
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Final

import attrs

from xproxy.config.findings import Path, Problem, is_like, show
from xproxy.config.never import never
from xproxy.config.places import clashes
from xproxy.config.schema import (
    ClusterConfig,
    CodecConfig,
    Config,
    FallbackConfig,
    ListenerConfig,
    MatchConfig,
    PathMatch,
    ProxyProtocolConfig,
    RouteConfig,
    ServerFirstConfig,
    StringMatch,
    codec_name,
)
from xproxy.config.shared_states import clusters_of
from xproxy.config.structure import ClassCheck, FieldCheck
from xproxy.config.tls_checks import nameless, tls_class_checks, tls_field_checks, tls_oddities
from xproxy.model.address import Address
from xproxy.model.errors import PluginError
from xproxy.registry import CODECS, FILTERS, LOAD_BALANCERS, Registry
from xproxy.routing.hosts import check_host_pattern
from xproxy.routing.patterns import compile_pattern, cost_of

MAX_TOTAL_WEIGHT: Final = 2**32 - 1
"""Of one route's weighted clusters together (semantics of Envoy: fits in 32 bits)."""
_PATH_KEYS: Final = ("exact", "prefix", "segment_prefix", "regex")
_STRING_KEYS: Final = ("exact", "prefix", "suffix", "contains", "regex", "present")


@attrs.frozen(kw_only=True)
class Names:
    """What a document defines, and what is installed."""

    clusters: tuple[str, ...] | None
    """None: not known, as what stands there is no mapping; then no reference is doubted."""
    tables: tuple[str, ...] | None
    registry: Registry
    base: FilePath
    """The folder that relative paths of files begin in."""
    _known_clusters: frozenset[str] = attrs.field(
        default=attrs.Factory(lambda self: frozenset(self.clusters or ()), takes_self=True),
        init=False,
    )

    def lack_cluster(self, name: str) -> bool:
        """Say whether a cluster is surely not there."""
        # Each of thousands of routes asks this of thousands of clusters.
        return self.clusters is not None and name not in self._known_clusters

    @classmethod
    def of(cls, document: object, registry: Registry, base: FilePath = FilePath()) -> Names:
        """Collect them from a document as it was written."""
        top = document if isinstance(document, dict) else {}
        return cls(
            clusters=_keys(top.get("clusters", {})),
            tables=_keys(top.get("routes", {})),
            registry=registry,
            base=base,
        )


def _keys(value: object) -> tuple[str, ...] | None:
    return tuple(value) if isinstance(value, dict) else None


def field_checks(names: Names) -> Mapping[tuple[type, str], FieldCheck]:
    """Return the checks of single fields."""
    return {
        **tls_field_checks(),
        (FallbackConfig, "cluster"): functools.partial(_cluster, names),
        (ServerFirstConfig, "cluster"): functools.partial(_cluster, names),
        (ListenerConfig, "routes"): functools.partial(_table, names),
        (ListenerConfig, "codecs"): functools.partial(_codecs, names),
        (RouteConfig, "cluster"): functools.partial(_clusters, names),
        (RouteConfig, "hosts"): _hosts,
        (MatchConfig, "protocol"): functools.partial(_protocols, names),
        (MatchConfig, "source"): _networks,
        (ProxyProtocolConfig, "allow"): _networks,
        (ClusterConfig, "codec"): functools.partial(_codec, names),
        (ClusterConfig, "load_balancer"): functools.partial(_load_balancer, names),
        (StringMatch, "regex"): _regex,
        (PathMatch, "regex"): _regex,
    }


def class_checks(names: Names) -> Mapping[type, ClassCheck]:
    """Return the checks of whole mappings."""
    return {
        **tls_class_checks(names.base),
        StringMatch: functools.partial(_exactly_one, _STRING_KEYS, StringMatch),
        PathMatch: functools.partial(_exactly_one, _PATH_KEYS, PathMatch),
        RouteConfig: functools.partial(_route, names),
        ListenerConfig: _listener,
        ClusterConfig: _cluster_keys,
        Config: _config,
    }


def unknown(
    kind: str, name: str, allowed: Sequence[str], *, at: Path = (), key: bool = False
) -> Problem:
    """Return the problem of a name that nothing has."""
    if not allowed:
        return Problem(f"unknown {kind} {show(name)}; there is none", at=at, on_key=key)
    return Problem(f"unknown {kind} {show(name)}", at=at, on_key=key, name=name, allowed=allowed)


def _raise_all(problems: Iterable[Problem]) -> None:
    found = list(problems)
    if found:
        raise ExceptionGroup("several", found)


def _cluster(names: Names, name: str | None) -> None:
    if name is not None and names.lack_cluster(name):
        raise unknown("cluster", name, names.clusters or ())


def _clusters(names: Names, value: str | dict[str, int] | None) -> None:
    if isinstance(value, str):
        _cluster(names, value)
    elif isinstance(value, dict):
        _raise_all(_weights(names, value))


def _weights(names: Names, weights: Mapping[str, int]) -> Iterator[Problem]:
    for name, weight in weights.items():
        if names.lack_cluster(name):
            yield unknown("cluster", name, names.clusters or (), at=(name,), key=True)
        if weight < 0:
            yield Problem(f"a weight must be 0 or more, found {weight}", at=(name,))
    total = sum(weights.values())
    if min(weights.values(), default=0) >= 0 and not 0 < total <= MAX_TOTAL_WEIGHT:
        yield Problem(f"the weights together must be 1 … {MAX_TOTAL_WEIGHT}, found {total}")


def _table(names: Names, name: str | None) -> None:
    if name is not None and names.tables is not None and name not in names.tables:
        raise unknown("route table", name, names.tables)


def _codecs(names: Names, value: str | tuple[str | CodecConfig, ...]) -> None:
    if isinstance(value, tuple):
        _raise_all(_listed_codecs(value, ["auto", *names.registry.names(CODECS)]))


def _listed_codecs(value: Sequence[str | CodecConfig], allowed: Sequence[str]) -> Iterator[Problem]:
    if not value:
        yield Problem("an empty list recognises nothing; write auto or the names of codecs")
    listed = [codec_name(codec) for codec in value]
    for index, name in enumerate(listed):
        if name not in allowed:
            yield unknown("codec", name, allowed, at=(index,))
        elif name in listed[:index]:
            yield Problem(f"codec {show(name)} is listed twice", at=(index,))


def _protocols(names: Names, value: tuple[str, ...] | None) -> None:
    codecs = names.registry.names(CODECS)
    if not set(codecs).issuperset(value or ()):  # else no codec need be loaded for it
        allowed = sorted({*codecs, *dialects(names.registry)})
        _raise_all(
            unknown("protocol", name, allowed, at=(index,))
            for index, name in enumerate(value or ())
            if name not in allowed
        )


def dialects(registry: Registry) -> set[str]:
    """Return the conventions for calls that the installed codecs know; of those that cannot be loaded, none."""
    found: set[str] = set()
    for name in registry.names(CODECS):
        try:
            found.update(registry.codec(name).traits.dialects)
        except PluginError:
            continue
    return found


def _codec(names: Names, codec: str | CodecConfig) -> None:
    name = codec_name(codec)
    allowed = ["auto", "same", "alpn", *names.registry.names(CODECS)]
    if name not in allowed:
        raise unknown("codec", name, allowed)


def _load_balancer(names: Names, name: str) -> None:
    allowed = names.registry.names(LOAD_BALANCERS)
    if name not in allowed:
        raise unknown("load balancer", name, allowed)


def _networks(value: tuple[str, ...] | None) -> None:
    _raise_all(_bad_networks(value or ()))


def _bad_networks(value: Sequence[str]) -> Iterator[Problem]:
    for index, text in enumerate(value):
        try:
            ipaddress.ip_network(text)
        except ValueError as exc:
            suggestion = _masked(text)
            hint = "" if suggestion else ", expected a network such as 10.0.0.0/8 or ::1/128"
            yield Problem(f"{_first_line(exc)}{hint}", at=(index,), suggestion=suggestion)


def _masked(text: str) -> str:
    """Return the network of an address with its host bits set, or an empty string."""
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        return ""


def _first_line(exc: Exception) -> str:
    text = str(exc).partition("\n")[0]
    return text if len(text) <= 120 else text[:117] + "..."


def _hosts(value: tuple[str, ...]) -> None:
    _raise_all(_bad_hosts(value))


def _bad_hosts(value: Sequence[str]) -> Iterator[Problem]:
    for index, host in enumerate(value):
        try:
            check_host_pattern(host)
        except ValueError:
            yield Problem(
                f"{show(host)} is not a host pattern; expected host, host:port, *.suffix, prefix.* or *",
                at=(index,),
            )


def _regex(pattern: str | None) -> None:
    if pattern is None:
        return
    try:
        compile_pattern(pattern)
    except ValueError as exc:
        try:
            cost_of(pattern)
        except ValueError as why:
            text = _first_line(why)
            raise Problem(f"{show(pattern)} is not a regular expression: {text}") from why
        raise Problem(str(exc)) from exc


def _exactly_one(keys: Sequence[str], cls: type, value: Mapping[str, object]) -> Iterator[Problem]:
    known = {field.name for field in attrs.fields(cls)}
    given = [key for key in keys if value.get(key) is not None]
    if len(given) > 1:
        yield Problem(f"exactly one of {', '.join(keys)} may be given, found {', '.join(given)}")
    elif not given and known.issuperset(
        value
    ):  # else the unknown key is likely the one that is missing
        yield Problem(f"exactly one of {', '.join(keys)} must be given")


def _route(names: Names, value: Mapping[str, object]) -> Iterator[Problem]:
    if value.get("cluster") is not None or _misspelt(value, "cluster", RouteConfig):
        return
    filters = value.get("filters", [])
    if not isinstance(filters, list) or not any(_answers(names.registry, item) for item in filters):
        yield Problem(
            "a route needs a cluster, or a filter that answers by itself (direct_response, redirect)"
        )


def _answers(registry: Registry, item: object) -> bool:
    """Say whether a filter answers by itself; True also if that cannot be known, as it is no known filter."""
    name = item.get("name") if isinstance(item, dict) else item
    if not isinstance(name, str) or name not in registry.names(FILTERS):
        return True
    try:
        return bool(getattr(registry.load(FILTERS, name), "terminal", False))
    except PluginError:
        return True


def _listener(value: Mapping[str, object]) -> Iterator[Problem]:
    silent, fallback = value.get("server_first"), value.get("fallback", "close")
    if (
        silent is True or (isinstance(silent, dict) and silent.get("cluster") is None)
    ) and fallback == "close":
        yield Problem(
            "name a cluster for silent clients here, or a fallback to one", at=("server_first",)
        )
    if value.get("routes") is not None or _misspelt(value, "routes", ListenerConfig):
        return
    if value.get("fallback", "close") == "close" and not _misspelt(
        value, "fallback", ListenerConfig
    ):
        yield Problem("a listener needs routes, or a fallback to a cluster")


def _cluster_keys(value: Mapping[str, object]) -> Iterator[Problem]:
    if (
        value.get("codec") == "alpn"
        and not value.get("tls")
        and not _misspelt(value, "tls", ClusterConfig)
    ):
        yield Problem("alpn needs `tls` beside it: the choice is made there", at=("codec",))
    yield from nameless(value)


def _misspelt(value: Mapping[str, object], key: str, cls: type) -> bool:
    """Say whether an unknown key is probably ``key``: then its absence is no second mistake."""
    known = {field.name for field in attrs.fields(cls)}
    return any(name not in known and is_like(name, key) for name in value)


def _config(value: Mapping[str, object]) -> Iterator[Problem]:
    listeners = value.get("listeners")
    if not isinstance(listeners, list):
        return
    mappings = [(i, item) for i, item in enumerate(listeners) if isinstance(item, dict)]
    yield from _twice("name", "name", [(i, item.get("name")) for i, item in mappings])
    yield from clashes(listeners, value.get("admin"))


def _twice(kind: str, key: str, values: Iterable[tuple[int, object]]) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for index, value in values:
        if not isinstance(value, str) or not value:
            continue
        before = first.setdefault(value, index)
        if before != index:
            message = f"{kind} {show(value)} is taken by listeners[{before}] already"
            yield Problem(message, at=("listeners", index, key))


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
    for table, routes in config.routes.items():
        if table not in used_tables:
            yield ("routes", table), "no listener uses this route table"
        if not routes:
            yield ("routes", table), "no routes: every request is answered with not found"
        yield from _unreachable(table, routes)
        yield from never(config, table, routes)
        for route in routes:
            used_clusters.update(clusters_of(route))
    for_browsers = _for_browsers(config)
    for name, cluster in config.clusters.items():
        if name not in used_clusters:
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
