"""What is wrong with a configuration beyond its types: names that nothing has, keys that exclude each other, files.

This is the only place that looks for it, whether the configuration comes from a file or is made by a program: the
loader adds where each problem stands, and the builder relies on there being none. All of them are found at once, also
in a configuration that could be read in part only: what is UNREAD is not doubted (``partial.py``).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Final

import attrs

from xproxy.config.balancing import balancer_name
from xproxy.config.codecs import ALPN, AUTO, SAME, plugin_of
from xproxy.config.discovery import STATIC
from xproxy.config.findings import InvalidConfig, Path, Problem, show, under, unknown
from xproxy.config.health import CheckConfig
from xproxy.config.kinds import EXCLUSIVE
from xproxy.config.partial import UNREAD, entries, parts
from xproxy.config.places import clashes
from xproxy.config.routing import RewriteConfig
from xproxy.config.schema import (
    ClusterConfig,
    CodecConfig,
    Config,
    FallbackConfig,
    FilterConfig,
    ListenerConfig,
    MatchConfig,
    PathMatch,
    ProxyProtocolConfig,
    RouteConfig,
    ServerFirstConfig,
    StringMatch,
    codec_name,
)
from xproxy.config.tls_checks import cluster_tls, listener_tls, nameless
from xproxy.model.errors import PluginError
from xproxy.registry import CODECS, FILTERS, LOAD_BALANCERS, Registry
from xproxy.routing.hosts import check_host_pattern
from xproxy.routing.patterns import MAX_PATTERN, compile_pattern, cost_of
from xproxy.upstream.discovery.api import SupportsDestination, SupportsEndpointsCheck

MAX_TOTAL_WEIGHT: Final = 2**32 - 1
"""Of one route's weighted clusters together (semantics of Envoy: fits in 32 bits)."""
_UPGRADE: Final = re.compile(
    r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}"
)  # RFC 9110 §16.7, without a version


def check(config: Config, registry: Registry) -> None:
    """Check a configuration. Raises InvalidConfig with all that is wrong, by path.

    One that was found right before, with this registry, is not looked at again.
    """
    for _ in checking(config, registry):
        pass


def checking(config: Config, registry: Registry) -> Generator[None, None, None]:
    """The same, which yields after each part: there may be very many."""
    if config.checked_with is registry:
        return
    problems: list[Problem] = []
    for found in problems_by_part(config, registry):
        problems += found
        yield
    if problems:
        raise InvalidConfig.of(problems)
    note_as_right(config, registry)


def note_as_right(config: Config, registry: Registry) -> None:
    """Remember that a configuration has no problems, so that it is not checked again."""
    # The value stays what it was; one that is evolved from it is another, and has not been looked at.
    object.__setattr__(config, "checked_with", registry)


def problems_by_part(config: Config, registry: Registry) -> Iterator[Sequence[Problem]]:
    """Give what is wrong with one part after the other, which mostly is nothing. Paths begin at the top."""
    names = _Names.of(config, registry)
    yield list(_ports(config))
    for index, listener in parts(config.listeners):
        yield list(under(("listeners", index), _listener(names, listener)))
    for table, routes in entries(config.routes):
        for index, route in parts(routes):
            yield list(under(("routes", table, index), _route(names, route)))
    for name, cluster in entries(config.clusters):
        yield list(under(("clusters", name), _cluster(names, cluster)))


@attrs.frozen(eq=False)
class _Names:
    """What a configuration defines, and what is installed."""

    registry: Registry
    clusters: tuple[str, ...] | None
    """None: not known, as what stands there could not be read; then no reference is doubted."""
    tables: tuple[str, ...] | None
    codecs: Sequence[str]
    listener_codecs: Sequence[str]
    cluster_codecs: Sequence[str]
    balancers: Sequence[str]
    _known_clusters: frozenset[str] = attrs.field(
        default=attrs.Factory(lambda self: frozenset(self.clusters or ()), takes_self=True),
        init=False,
    )

    @classmethod
    def of(cls, config: Config, registry: Registry) -> _Names:
        """Collect them."""
        codecs = registry.names(CODECS)
        return cls(
            registry,
            None if config.clusters is UNREAD else tuple(config.clusters),
            None if config.routes is UNREAD else tuple(config.routes),
            codecs,
            (AUTO, *codecs),
            (AUTO, SAME, ALPN, *codecs),
            registry.names(LOAD_BALANCERS),
        )

    def cluster(self, name: str | None, *at: str, key: bool = False) -> Iterator[Problem]:
        """Look for a cluster that is named at ``at``, by a ``key`` there or a value; None names none."""
        # Each of thousands of routes asks this of thousands of clusters.
        if name is None or name is UNREAD or self.clusters is None or name in self._known_clusters:
            return
        yield unknown("cluster", name, self.clusters, at=at, key=key)


def _ports(config: Config) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for index, listener in parts(config.listeners):
        if not listener.name or listener.name is UNREAD:
            continue
        before = first.setdefault(listener.name, index)
        if before != index:
            message = f"name {show(listener.name)} is taken by listeners[{before}] already"
            yield Problem(message, at=("listeners", index, "name"))
    yield from clashes(config)


def _listener(names: _Names, listener: ListenerConfig) -> Iterator[Problem]:
    if isinstance(listener.codecs, tuple):
        yield from _listed_codecs(names, listener.codecs)
    fallback, silent = listener.fallback, listener.server_first
    if isinstance(fallback, FallbackConfig):
        yield from names.cluster(fallback.cluster, "fallback", "cluster")
    if isinstance(silent, ServerFirstConfig):
        yield from names.cluster(silent.cluster, "server_first", "cluster")
        if silent.cluster is None and fallback == "close":
            yield Problem(
                "name a cluster for silent clients here, or a fallback to one", at=("server_first",)
            )
    if isinstance(listener.routes, str) and names.tables is not None:
        if listener.routes not in names.tables:
            yield unknown("route table", listener.routes, names.tables, at=("routes",))
    elif listener.routes is None and fallback == "close":
        yield Problem("a listener needs routes, or a fallback to a cluster")
    if isinstance(listener.proxy_protocol, ProxyProtocolConfig):
        allowed = listener.proxy_protocol.allow
        yield from under(("proxy_protocol", "allow"), _networks(allowed))
    if listener.tls is not None and listener.tls is not UNREAD:
        yield from under(("tls",), listener_tls(listener.tls))
    yield from _filters(names, listener.filters)


def _listed_codecs(names: _Names, listed: Sequence[str | CodecConfig]) -> Iterator[Problem]:
    if not listed:
        yield Problem(
            "an empty list recognises nothing; write auto or the names of codecs", at=("codecs",)
        )
    allowed = names.listener_codecs
    before: set[str] = set()
    for index, codec in parts(listed):
        name = codec_name(codec)
        if name not in allowed:
            yield unknown("codec", name, allowed, at=("codecs", index))
        elif name in before:
            yield Problem(f"codec {show(name)} is listed twice", at=("codecs", index))
        else:
            yield from _options(names, codec, ("codecs", index))
        before.add(name)


def _options(names: _Names, codec: str | CodecConfig, at: Path) -> Iterator[Problem]:
    if isinstance(codec, CodecConfig) and codec.options is not UNREAD:
        try:
            plugin_of(codec, names.registry)
        except PluginError as exc:
            yield Problem(str(exc), at=at)


def _filters(names: _Names, filters: Sequence[FilterConfig]) -> Iterator[Problem]:
    for index, one in parts(filters):
        if one.options is UNREAD:
            continue
        if not callable(one.options):
            yield Problem(f"{show(one.name)} is not loaded as a filter", at=("filters", index))
            continue
        for cluster in getattr(one.options, "min_healthy_percentages", ()):
            for problem in names.cluster(cluster, key=True):
                problem.at = ("filters", index, "min_healthy_percentages", cluster)
                yield problem


def _route(names: _Names, route: RouteConfig) -> Iterator[Problem]:
    cluster = route.cluster
    if isinstance(cluster, str):
        yield from names.cluster(cluster, "cluster")
    elif isinstance(cluster, dict):
        yield from under(("cluster",), _weights(names, cluster))
    elif (
        cluster is None
        and route.cluster_header is None
        and route.filters is not UNREAD
        and not any(_may_answer(names.registry, one) for one in route.filters)
    ):
        yield Problem(
            "a route needs a cluster, or a filter that answers by itself (direct_response, redirect)"
        )
    if cluster is not None and route.cluster_header is not None:
        yield Problem("`cluster` and `cluster_header` exclude each other")
    if route.weight_header is not None and isinstance(cluster, str):
        yield Problem("needs weights in `cluster`", at=("weight_header",))
    if isinstance(route.rewrite, RewriteConfig) and route.rewrite.prefix is not None:
        path = route.match.path if isinstance(route.match, MatchConfig) else UNREAD
        if path is None or (
            isinstance(path, PathMatch) and path.prefix is None and path.segment_prefix is None
        ):
            yield Problem(
                "needs `prefix` or `segment_prefix` in `match.path`", at=("rewrite", "prefix")
            )
    yield from names.cluster(route.fallback_cluster, "fallback_cluster")
    for index, mirror in parts(route.mirrors):
        for problem in names.cluster(mirror.cluster):
            problem.at = ("mirrors", index, "cluster")
            yield problem
    for index, host in parts(route.hosts):
        try:
            check_host_pattern(host)
        except ValueError:
            yield Problem(
                f"{show(host)} is not a host pattern; expected host, host:port, *.suffix, prefix.* or *",
                at=("hosts", index),
            )
    if route.match is not _ANY and route.match is not UNREAD:
        yield from under(("match",), _match(names, route.match))
    for index, name in parts(route.allow_upgrade):
        if _UPGRADE.fullmatch(name) is None:
            yield Problem(
                f"{show(name)} is not the name of a protocol", at=("allow_upgrade", index)
            )
    yield from _filters(names, route.filters)


_ANY: Final = attrs.fields(RouteConfig).match.default
"""Most routes have no other tests than by host, and this very object."""


def _may_answer(registry: Registry, filter_: FilterConfig) -> bool:
    """Say whether a filter answers by itself; True also if that cannot be known, as it is no known filter."""
    # ``terminal`` is a class attribute of filters.
    if filter_ is UNREAD:
        return True
    if filter_.options is not UNREAD:
        return bool(getattr(filter_.options, "terminal", False))
    try:
        return bool(getattr(registry.load(FILTERS, filter_.name), "terminal", False))
    except PluginError:
        return True


def _weights(names: _Names, weights: Mapping[str, int]) -> Iterator[Problem]:
    for name in weights:
        yield from names.cluster(name, name, key=True)
    known = dict(entries(weights))
    for name, weight in known.items():
        if weight < 0:
            yield Problem(f"a weight must be 0 or more, found {weight}", at=(name,))
    total = sum(known.values())
    if (
        len(known) == len(weights)
        and min(known.values(), default=0) >= 0
        and not 0 < total <= MAX_TOTAL_WEIGHT
    ):
        yield Problem(f"the weights together must be 1 … {MAX_TOTAL_WEIGHT}, found {total}")


def _match(names: _Names, match: MatchConfig) -> Iterator[Problem]:
    for key, test in (
        ("path", match.path),
        ("service", match.service),
        ("sni", match.sni),
        ("peer_identity", match.peer_identity),
    ):
        if test is not None and test is not UNREAD:
            yield from under((key,), _text(test))
    for key, tests in (
        ("headers", match.headers),
        ("cookies", match.cookies),
        ("query", match.query),
        ("arguments", match.arguments),
    ):
        for name, test in entries(tests):
            yield from under((key, name), _text(test))
    for key, wanted in (
        ("method", match.method),
        ("protocol", match.protocol),
        ("alpn", match.alpn),
        ("source", match.source),
    ):
        if wanted is not None and not wanted:
            yield Problem("must not be an empty list", at=(key,))
    yield from under(("protocol",), _protocols(names, match.protocol))
    yield from under(("source",), _networks(match.source))


_MISSING: Final = "treat_missing_as_empty"


def _text(test: StringMatch | PathMatch) -> Iterator[Problem]:
    keys = EXCLUSIVE[type(test)]
    given = [key for key in keys if getattr(test, key) is not None]
    if len(given) > 1:
        yield Problem(f"exactly one of {', '.join(keys)} may be given, found {', '.join(given)}")
    elif not given:
        yield Problem(f"exactly one of {', '.join(keys)} must be given")
    if isinstance(test, StringMatch) and test.treat_missing_as_empty and test.present is not None:
        yield Problem("nothing is missing that is empty: `present` excludes it", at=(_MISSING,))
    if isinstance(test.regex, str):
        yield from _regex(test.regex)


def _regex(pattern: str) -> Iterator[Problem]:
    try:
        compile_pattern(pattern)
    except ValueError as exc:
        message = str(exc)
        try:
            if len(pattern) <= MAX_PATTERN:
                cost_of(pattern)
        except ValueError as why:
            message = f"{show(pattern)} is not a regular expression: {_first_line(why)}"
        yield Problem(message, at=("regex",))


def _protocols(names: _Names, wanted: Sequence[str] | None) -> Iterator[Problem]:
    if not wanted or wanted is UNREAD or set(names.codecs).issuperset(wanted):
        return  # no codec need be loaded for it
    allowed = sorted({*names.codecs, *dialects(names.registry)})
    for index, name in parts(wanted):
        if name not in allowed:
            yield unknown("protocol", name, allowed, at=(index,))


def dialects(registry: Registry) -> set[str]:
    """Return the conventions for calls that the installed codecs know; of those that cannot be loaded, none."""
    found: set[str] = set()
    for name in registry.names(CODECS):
        try:
            found.update(registry.codec(name).traits.dialects)
        except PluginError:
            continue
    return found


def _networks(texts: Sequence[str] | None) -> Iterator[Problem]:
    for index, text in parts(texts):
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


def _cluster(names: _Names, cluster: ClusterConfig) -> Iterator[Problem]:
    codec, balancer, tls = cluster.codec, cluster.load_balancer, cluster.tls
    if codec is not UNREAD:
        if codec_name(codec) not in names.cluster_codecs:
            yield unknown("codec", codec_name(codec), names.cluster_codecs, at=("codec",))
        else:
            yield from _options(names, codec, ("codec",))
        if codec == ALPN and tls is None:
            yield Problem("alpn needs `tls` beside it: the choice is made there", at=("codec",))
    if balancer is not UNREAD and balancer_name(balancer) not in names.balancers:
        name = balancer_name(balancer)
        yield unknown("load balancer", name, names.balancers, at=("load_balancer",))
    yield from _endpoints(cluster)
    for index, check in parts(cluster.health_checks):
        if check.check is not UNREAD and check.check.options is not UNREAD:
            at = ("health_checks", index, "check")
            yield from under(at, _health_check(names, check.check, codec))
    if tls is not None and tls is not UNREAD:
        yield from under(("tls",), cluster_tls(tls))
        yield from nameless(tls, cluster.endpoints)


def _health_check(names: _Names, check: CheckConfig, codec: str | CodecConfig) -> Iterator[Problem]:
    """Look at the codec that a check speaks, where it has such an option."""
    if not callable(check.options):
        yield Problem(f"{show(check.name)} is not loaded as a health check")
        return
    spoken = getattr(check.options, "codec", None)
    if spoken and spoken not in names.codecs:
        yield unknown("codec", spoken, names.codecs, at=("codec",))
    needs = getattr(check.options, "needs_codec", False)
    if spoken == "" and needs and codec is not UNREAD and codec_name(codec) in (AUTO, SAME, ALPN):
        yield Problem(
            "say in `codec` what is spoken: it hangs on the request in this cluster", at=("codec",)
        )


def _endpoints(cluster: ClusterConfig) -> Iterator[Problem]:
    type_, endpoints = cluster.type, cluster.endpoints
    if type_ is UNREAD or endpoints is UNREAD:
        return
    if type_ == STATIC:
        if not endpoints:
            yield Problem("it needs `endpoints`, at least one, or a `type` that finds them")
        return
    options = type_.options
    if isinstance(options, SupportsEndpointsCheck):
        why = options.refusal([one for _, one in parts(endpoints)])
        if why:
            yield Problem(why, at=("type",))
    if isinstance(options, SupportsDestination):
        watching = {
            "health_checks": cluster.health_checks,
            "outlier_detection": cluster.outlier_detection,
        }
        for key, value in watching.items():
            if value and value is not UNREAD:
                why = "requests say where they go: there is no other endpoint to choose for them"
                yield Problem(why, at=(key,))
