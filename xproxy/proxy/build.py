"""Configuration → snapshot. Opens nothing: what needs a task or a socket is started by the runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import cast

import attrs

from xproxy.codecs.detect import DetectCounters, Detector
from xproxy.config.schema import Config, FilterConfig, LimitsConfig, ListenerConfig
from xproxy.connection.service import Service
from xproxy.model.errors import PluginError
from xproxy.model.limits import Limits
from xproxy.model.networks import Networks
from xproxy.proxy.snapshot import ListenerPlan, Snapshot
from xproxy.registry import Registry
from xproxy.routing.router import Router
from xproxy.routing.table import RouteTable
from xproxy.stream.chain import compose
from xproxy.stream.exchange import Filter, Handler, Request, Response
from xproxy.stream.lifetime import SupportsRun
from xproxy.transport.poller import Poller
from xproxy.transport.timers import Timers
from xproxy.upstream.balance.api import LoadBalancer, LoadBalancerFactory
from xproxy.upstream.cluster import Cluster
from xproxy.upstream.endpoint import Endpoint


@attrs.frozen(eq=False)
class Tools:
    """What every snapshot of a process is built with."""

    registry: Registry
    poller: Poller
    timers: Timers
    random: Random
    detections: DetectCounters


def build(config: Config, tools: Tools, previous: Snapshot | None = None) -> Snapshot:
    """Assemble ``config``. A cluster whose configuration is as before stays the one it was, connections and all."""
    clusters = {
        name: _same_cluster(name, config, previous) or _build_cluster(name, config, tools)
        for name in config.clusters
    }
    tables = {name: RouteTable.build(name, routes) for name, routes in config.routes.items()}
    routers: dict[str, Handler] = {name: Router(table, clusters) for name, table in tables.items()}
    listeners = {
        listener.name: _build_listener(listener, routers, clusters, tools)
        for listener in config.listeners
    }
    filters: list[object] = [f for table in tables.values() for f in table.filters]
    filters += [f.options for listener in config.listeners for f in listener.filters]
    # By id: one filter object may stand in several places, and is started once.
    parts = tuple({id(f): f for f in filters if isinstance(f, SupportsRun)}.values())
    return Snapshot(config=config, listeners=listeners, clusters=clusters, parts=parts)


def _same_cluster(name: str, config: Config, previous: Snapshot | None) -> Cluster | None:
    if previous is None:
        return None
    cluster = previous.clusters.get(name)
    return cluster if cluster is not None and cluster.config == config.clusters[name] else None


def _build_cluster(name: str, config: Config, tools: Tools) -> Cluster:
    cluster = config.clusters[name]
    balancer = tools.registry.load("xproxy.load_balancers", cluster.load_balancer)
    return Cluster(
        name,
        cluster,
        _guarded(cluster.load_balancer, cast("LoadBalancerFactory", balancer)),
        tools.registry.codec,
        tools.poller,
        tools.timers,
        tools.random,
        Limits(
            max_head_bytes=cluster.limits.max_head_bytes,
            max_headers=cluster.limits.max_headers,
            max_message_bytes=cluster.limits.max_message_bytes,
        ),
    )


def _guarded(name: str, make: LoadBalancerFactory) -> LoadBalancerFactory:
    # Somebody else's code: what it raises must refuse the configuration, not end the proxy.
    def make_balancer(endpoints: Sequence[Endpoint], random: Random) -> LoadBalancer:
        try:
            return make(endpoints, random)
        except Exception as exc:
            raise PluginError(
                f"load balancer {name!r} cannot be made: {type(exc).__name__}: {exc}"
            ) from exc

    return make_balancer


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


def make_service(config: ListenerConfig, handler: Handler) -> Service:
    """Return the service of a listener in a new snapshot."""
    limits = config.limits
    return Service(
        handler,
        config.timeouts,
        limits.max_outbox_bytes,
        limits.max_streams,
        limits.max_message_bytes,
    )


def _build_listener(
    config: ListenerConfig,
    routers: Mapping[str, Handler],
    clusters: Mapping[str, Cluster],
    tools: Tools,
) -> ListenerPlan:
    filters = [_filter(one) for one in config.filters]
    fallback: Service | None = None
    if config.fallback != "close":
        to_cluster = Fallback(config.fallback.cluster, clusters[config.fallback.cluster])
        fallback = make_service(config, compose(filters, to_cluster))
    limits = codec_limits(config.limits)
    if config.routes is not None:
        service = make_service(config, compose(filters, routers[config.routes]))
    else:
        assert fallback is not None, (
            "the loader refuses a listener with neither routes nor fallback"
        )
        service = fallback
    if config.codecs == "auto":
        plugins = tools.registry.codecs()
    else:
        plugins = tuple(tools.registry.codec(name) for name in config.codecs)
    recognisable = [p for p in plugins if not (p.traits.headless or p.traits.server_first)]
    detector = None
    if recognisable and config.routes is not None:
        detector = Detector(recognisable, limits, tools.detections)
    return ListenerPlan(
        config=config,
        service=service,
        detector=detector,
        only=plugins[0]
        if config.codecs != "auto" and len(plugins) == 1 and fallback is None
        else None,
        fallback=fallback,
        opaque=tools.registry.codec("opaque"),
        limits=limits,
        believed=Networks(config.proxy_protocol.allow if config.proxy_protocol else ()),
    )


def _filter(config: FilterConfig) -> Filter:
    return cast("Filter", config.options)


@attrs.frozen(eq=False)
class Fallback:
    """The handler of connections that nobody recognised: straight to one cluster."""

    name: str
    cluster: Handler

    async def __call__(self, request: Request) -> Response:
        """See Handler."""
        request.route = "fallback"
        request.cluster = self.name
        return await self.cluster(request)
