"""Configuration → snapshot. Opens nothing: what needs a task or a socket is started by the runtime."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from random import Random
from typing import ParamSpec, TypeVar, cast

import attrs

from xproxy.codecs.detect import DetectCounters, Detector
from xproxy.config.balancing import BalancerConfig, balancer_name
from xproxy.config.checks import checking
from xproxy.config.codecs import (
    AUTO,
    call_codecs,
    cluster_codec,
    listener_codecs,
    offered_codecs,
    ordinary_codec,
    sole_codec,
)
from xproxy.config.schema import ClusterConfig, Config, FilterConfig, LimitsConfig, ListenerConfig
from xproxy.connection.service import Service
from xproxy.model.errors import Forbidden, PluginError
from xproxy.model.limits import Limits
from xproxy.model.networks import Networks
from xproxy.proxy.addressing import Addressed, PathRules, redirect, reject
from xproxy.proxy.listener_tls import ListenerTls, alpn_of
from xproxy.proxy.snapshot import ListenerPlan, Snapshot
from xproxy.registry import LOAD_BALANCERS, Registry
from xproxy.routing.router import Router
from xproxy.routing.table import RouteTable
from xproxy.stream.carrying import SupportsCarry
from xproxy.stream.chain import compose
from xproxy.stream.exchange import Filter, Handler, Request, Response, SupportsRefusals
from xproxy.stream.lifetime import SupportsClusters, SupportsRun
from xproxy.stream.record import Attempted
from xproxy.transport.breather import at_once
from xproxy.transport.poller import Poller
from xproxy.transport.timers import Timers
from xproxy.upstream.balance.api import (
    LoadBalancer,
    LoadBalancerFactory,
    ObservingBalancer,
    Picker,
    slow_start_of,
)
from xproxy.upstream.cluster import Cluster, CodecChoice
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.health.api import Spoken
from xproxy.upstream.origination import Origination
from xproxy.upstream.ticker import Ticker
from xproxy.upstream.untold import Untold

P = ParamSpec("P")
T = TypeVar("T")


@attrs.frozen(eq=False)
class Tools:
    """What every snapshot of a process is built with."""

    registry: Registry
    poller: Poller
    timers: Timers
    ticker: Ticker
    random: Random
    detections: DetectCounters


def build(config: Config, tools: Tools, previous: Snapshot | None = None) -> Snapshot:
    """Assemble ``config`` in one go. Raises InvalidConfig, PluginError, TlsOptionsError."""
    return at_once(assemble(config, tools, previous))


def assemble(
    config: Config, tools: Tools, previous: Snapshot | None = None
) -> Generator[None, None, Snapshot]:
    """Assemble ``config`` in small steps; changes nothing that is in force. Raises as ``build``.

    It is checked first, unless the loader has just done that: nothing below looks for mistakes in it.
    A cluster of which nothing has changed but its endpoints stays the one it was, connections and all.
    """
    yield from checking(config, tools.registry)
    clusters: dict[str, Cluster] = {}
    changes: list[tuple[Cluster, ClusterConfig]] = []
    for name, wanted in config.clusters.items():
        cluster = _same_cluster(name, wanted, previous)
        if cluster is None:
            cluster = _build_cluster(name, config, tools, previous)
        elif cluster.config.endpoints != wanted.endpoints:
            changes.append((cluster, wanted))
        clusters[name] = cluster
        yield
    tables: dict[str, RouteTable] = {}
    routers: dict[str, Router] = {}
    # A router knows all clusters, also those that weights lead to.
    led_to = previous is not None and _same_objects(clusters, previous.clusters)
    for name, routes in config.routes.items():
        if previous is None or previous.config.routes.get(name) is not routes:
            tables[name] = yield from RouteTable.building(name, routes)
        else:
            # The very same values, filters and all: what was made of them, and is remembered, goes on.
            tables[name] = previous.tables[name]
            if led_to:
                routers[name] = previous.routers[name]
                continue
        routers[name] = yield from Router.building(tables[name], clusters)
    listeners: dict[str, ListenerPlan] = {}
    for listener in config.listeners:
        listeners[listener.name] = _build_listener(listener, routers, clusters, tools, previous)
        yield
    filters: list[object] = [f for table in tables.values() for f in table.filters]
    filters += [one for table in tables.values() for one in table.beside]
    filters += [f.options for listener in config.listeners for f in listener.filters]
    # By id: one filter object may stand in several places, and is started once.
    filters += [plan.tls for plan in listeners.values()]
    parts: dict[int, SupportsRun] = {}
    carrying: dict[int, SupportsCarry] = {}
    seeing: dict[int, SupportsClusters] = {}
    for one in filters:
        if isinstance(one, SupportsRun):
            parts[id(one)] = one
        if isinstance(one, SupportsCarry):
            carrying[id(one)] = one
        if isinstance(one, SupportsClusters):
            seeing[id(one)] = one
        yield
    return Snapshot(
        config=config,
        listeners=listeners,
        clusters=clusters,
        parts=tuple(parts.values()),
        carrying=tuple(carrying.values()),
        seeing=tuple(seeing.values()),
        tables=tables,
        routers=routers,
        changes=tuple(changes),
    )


def _same_objects(one: Mapping[str, Cluster], other: Mapping[str, Cluster]) -> bool:
    return len(one) == len(other) and all(other.get(name) is that for name, that in one.items())


def _same_cluster(name: str, config: ClusterConfig, previous: Snapshot | None) -> Cluster | None:
    cluster = previous.clusters.get(name) if previous is not None else None
    if cluster is None:
        return None
    if config is not cluster.config and not cluster.may_become(config):
        return None
    cluster.refresh()
    return cluster


def _build_cluster(name: str, config: Config, tools: Tools, previous: Snapshot | None) -> Cluster:
    cluster = config.clusters[name]
    chosen = cluster.load_balancer
    balancer = cast(
        "LoadBalancerFactory", tools.registry.load(LOAD_BALANCERS, balancer_name(chosen))
    )
    if isinstance(chosen, BalancerConfig):
        balancer = _with_options(balancer, chosen.options)
    return Cluster(
        name,
        cluster,
        _guarded(balancer_name(chosen), balancer),
        _codec_choice(cluster, tools.registry),
        tools.poller,
        tools.timers,
        tools.ticker,
        tools.random,
        Limits(
            max_head_bytes=cluster.limits.max_head_bytes,
            max_headers=cluster.limits.max_headers,
            max_message_bytes=cluster.limits.max_message_bytes,
        ),
        Origination(name, cluster.tls) if cluster.tls is not None else None,
        offered_codecs(cluster, tools.registry),
        _untold(cluster, tools.registry),
        previous.clusters.get(name) if previous is not None else None,
        _spoken(cluster, tools.registry) if cluster.health_checks else None,
    )


def _spoken(config: ClusterConfig, registry: Registry) -> Spoken:
    own = cluster_codec(config, registry)
    return Spoken(registry.codec, own, ordinary_codec(registry), call_codecs(registry))


def _untold(config: ClusterConfig, registry: Registry) -> Untold | None:
    if config.codec != AUTO:
        return None
    return Untold(ordinary_codec(registry), call_codecs(registry), secured=config.tls is not None)


def _codec_choice(config: ClusterConfig, registry: Registry) -> CodecChoice:
    plugin = cluster_codec(config, registry)
    return registry.codec if plugin is None else lambda _: plugin


def _with_options(balancer: LoadBalancerFactory, options: object) -> LoadBalancerFactory:
    factory = cast("Callable[[Random, object], LoadBalancer]", balancer)  # see registry
    return lambda random: factory(random, options)


def _guarded(name: str, make: LoadBalancerFactory) -> LoadBalancerFactory:
    # Somebody else's code: what it raises must refuse the configuration, not end the proxy.
    def guarded(random: Random) -> LoadBalancer:
        balancer = _guard(name, make, random)
        if isinstance(balancer, ObservingBalancer):
            return _GuardedObserver(name, balancer, balancer.ended)
        return _Guarded(name, balancer)

    return guarded


@attrs.frozen(eq=False)
class _Guarded:
    name: str
    balancer: LoadBalancer

    def picker(self, endpoints: Sequence[Endpoint], previous: Picker | None) -> Picker:
        return _guard(self.name, self.balancer.picker, endpoints, previous)

    @property
    def slow_start(self) -> object:
        """See api."""
        return slow_start_of(self.balancer)


@attrs.frozen(eq=False)
class _GuardedObserver(_Guarded):
    ended: Callable[[Attempted], None]


def _guard(name: str, make: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return make(*args, **kwargs)
    except Exception as exc:
        raise PluginError(
            f"load balancer {name!r} cannot be made: {type(exc).__name__}: {exc}"
        ) from exc


def codec_limits(config: LimitsConfig) -> Limits:
    """Return what a listener's codecs may hold."""
    return Limits(
        max_head_bytes=config.max_head_bytes,
        max_headers=config.max_headers,
        max_target_bytes=config.max_target_bytes,
        max_message_bytes=config.max_message_bytes,
        max_streams=config.max_streams,
        max_detect_bytes=config.max_detect_bytes,
    )


def make_service(
    config: ListenerConfig,
    handler: Handler,
    filters: Sequence[Filter] = (),
    direct: Handler | None = None,
) -> Service:
    """Return the service of a listener in a new snapshot."""
    limits = config.limits
    return Service(
        handler,
        config.timeouts,
        limits.max_outbox_bytes,
        limits.max_streams,
        limits.max_message_bytes,
        tuple(one.refused for one in filters if isinstance(one, SupportsRefusals)),
        direct=direct or handler,
    )


def _build_listener(
    config: ListenerConfig,
    routers: Mapping[str, Handler],
    clusters: Mapping[str, Cluster],
    tools: Tools,
    previous: Snapshot | None,
) -> ListenerPlan:
    filters = [_filter(one) for one in config.filters]
    rules = PathRules.of(config)

    def serve(handler: Handler) -> Service:
        whole = direct = compose(filters, handler)
        if config.tls is not None or not rules.idle:
            whole = Addressed(whole, rules, compose(filters, reject), compose(filters, redirect))
        return make_service(config, whole, filters, direct)

    fallback: Service | None = None
    if config.fallback != "close":
        name = config.fallback.cluster
        fallback = serve(Fallback("fallback", name, clusters[name]))
    limits = codec_limits(config.limits)
    if config.routes is not None:
        service = serve(routers[config.routes])
    else:
        assert fallback is not None, "which has been checked"
        service = fallback
    plugins = listener_codecs(config, tools.registry)
    recognisable = [p for p in plugins if not (p.traits.headless or p.traits.server_first)]
    alpn = alpn_of(recognisable) if config.routes is not None else {}
    detector = None
    if recognisable and config.routes is not None:
        detector = Detector(recognisable, limits, tools.detections)
    return ListenerPlan(
        config=config,
        service=service,
        detector=detector,
        only=sole_codec(config, plugins) if fallback is None else None,
        fallback=fallback,
        opaque=tools.registry.codec("opaque"),
        limits=limits,
        believed=Networks(config.proxy_protocol.allow if config.proxy_protocol else ()),
        tls=_listener_tls(config, tuple(alpn), previous),
        by_alpn=alpn,
        silent=_silent(config, serve, fallback, clusters),
        refusal=serve(_refuse) if config.tls is not None and config.tls.strict else None,
    )


def _listener_tls(
    config: ListenerConfig, alpn: tuple[str, ...], previous: Snapshot | None
) -> ListenerTls | None:
    if config.tls is None:
        return None
    plan = previous.listeners.get(config.name) if previous is not None else None
    if plan is not None and plan.tls is not None:
        before = plan.tls
        if (before.config, before.alpn) == (config.tls, alpn):
            before.refresh()
            return before
    return ListenerTls(config.name, config.tls, alpn)


def _silent(
    config: ListenerConfig,
    serve: Callable[[Handler], Service],
    fallback: Service | None,
    clusters: Mapping[str, Cluster],
) -> Service | None:
    if config.server_first is None:
        return None
    name = config.server_first.cluster
    return fallback if name is None else serve(Fallback("server_first", name, clusters[name]))


async def _refuse(request: Request) -> Response:
    if request.connection.downstream is not None:
        request.connection.downstream.drain()
    raise Forbidden("this port takes TLS only")


def _filter(config: FilterConfig) -> Filter:
    return cast("Filter", config.options)


@attrs.frozen(eq=False)
class Fallback:
    """The handler of connections that nobody recognised: straight to one cluster."""

    route: str
    """What to call this way."""
    name: str
    cluster: Handler

    async def __call__(self, request: Request) -> Response:
        """See Handler."""
        request.record.route = self.route
        request.record.cluster = self.name
        return await self.cluster(request)
