"""The demo's scene: which upstreams there are, the proxy's configuration for them, and the calls to make."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Final

import attrs
import trio

from xproxy.cli.demo.calls import Call, frames_get, http_get, rpc_call, tcp_echo
from xproxy.cli.demo.forms import form_of
from xproxy.cli.demo.grpc_greeter import greeter, grpc_call
from xproxy.cli.demo.journal import Journal
from xproxy.cli.demo.upstreams import echo, rpc, start, web
from xproxy.codecs.api import CodecPlugin
from xproxy.config.schema import (
    ClusterConfig,
    Config,
    EndpointConfig,
    FallbackConfig,
    ListenerConfig,
    MatchConfig,
    PathMatch,
    RouteConfig,
    StringMatch,
)
from xproxy.model.address import Address
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Head
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role, Sharing
from xproxy.registry import CODECS, Registry

_LABELS: Final = {"bolt": "SOFA Bolt", "dubbo": "Dubbo 2", "thrift": "Thrift"}
_SERVICE: Final = "com.example.Greeter"
_RAW: Final = b"(no protocol that anybody knows)\n"


@attrs.frozen(kw_only=True)
class Scene:
    """Everything the demo consists of."""

    config: Config
    calls: tuple[Call, ...]


async def set_up(
    nursery: trio.Nursery, listen: Address, registry: Registry, journal: Journal
) -> Scene:
    """Start the upstreams in ``nursery`` and return what belongs to them. Raises PluginError."""
    clusters: dict[str, ClusterConfig] = {}
    routes: list[RouteConfig] = []
    calls: list[Call] = []

    servers = [await start(nursery, functools.partial(web, f"web-{n}")) for n in (1, 2, 3)]
    clusters["web"] = _cluster(servers[:2])
    clusters["shop"] = _cluster(servers[2:])
    routes.append(
        RouteConfig(
            name="shop",
            match=MatchConfig(protocol=("http1",), path=PathMatch(segment_prefix="/shop")),
            cluster="shop",
        )
    )
    routes.append(RouteConfig(name="web", match=MatchConfig(protocol=("http1",)), cluster="web"))
    calls += [http_get("/hello"), http_get("/hello"), http_get("/shop/cart")]
    if "http2" in registry.names(CODECS):
        # The same servers, which speak HTTP/1.1 only: what comes in HTTP/2 is converted.
        match = MatchConfig(protocol=("http2",))
        routes.append(RouteConfig(name="converted", match=match, cluster="converted"))
        clusters["converted"] = attrs.evolve(_cluster(servers[:2]), codec="http1")
        http2 = registry.codec("http2")
        calls.append(frames_get(http2, "HTTP/2", "/hello"))
        greeters = [
            await start(nursery, functools.partial(greeter, http2, f"grpc-{n}")) for n in (1, 2)
        ]
        clusters["grpc"] = _cluster(greeters)
        match = MatchConfig(protocol=("grpc",), service=StringMatch(exact=_SERVICE))
        routes.insert(0, RouteConfig(name="grpc", match=match, cluster="grpc"))
        calls += [grpc_call(http2, _SERVICE, "hello", b"hi") for _ in greeters]

    for plugin in message_codecs(registry):
        name = plugin.name
        label = _LABELS.get(name, f"{name} (plugin)")
        servers = [
            await start(nursery, functools.partial(rpc, plugin, f"{name}-{n}")) for n in (1, 2)
        ]
        clusters[name] = _cluster(servers)
        match = MatchConfig(protocol=(name,))
        routes.append(RouteConfig(name=name, match=match, cluster=name))
        calls += [rpc_call(plugin, label, _SERVICE, "hello", b"hi") for _ in servers]

    clusters["raw"] = _cluster([await start(nursery, echo)])
    calls.append(tcp_echo(_RAW))
    listener = ListenerConfig(
        name="demo",
        address=listen,
        fallback=FallbackConfig(cluster="raw"),
        filters=(journal.filter(),),
        routes="demo",
    )
    config = Config(listeners=(listener,), routes={"demo": tuple(routes)}, clusters=clusters)
    return Scene(config=config, calls=tuple(calls))


def message_codecs(registry: Registry) -> list[CodecPlugin]:
    """Return the installed codecs whose messages come whole: the demo can speak any of them."""
    plugins = [registry.codec(name) for name in registry.names(CODECS)]
    found = [p for p in plugins if p.traits.sharing is Sharing.MESSAGES and _carries_text(p)]
    return sorted(found, key=lambda plugin: (plugin.name not in _LABELS, plugin.name))


def _cluster(addresses: Sequence[Address]) -> ClusterConfig:
    return ClusterConfig(endpoints=tuple(EndpointConfig(address=a) for a in addresses))


def _carries_text(plugin: CodecPlugin) -> bool:
    # The demo says one thing in every protocol. One whose bodies have a form of their own cannot say it.
    form = form_of(plugin.name)
    asked = Head(1, RequestHead(service=_SERVICE, method="hello"), form.write(b"hi"), True)
    client, server = (plugin.open(role, DEFAULT_LIMITS) for role in (Role.CLIENT, Role.SERVER))
    try:
        for frame in server.receive(client.send(asked)):
            if isinstance(frame, Head):
                answer = Head(
                    frame.stream_id, ResponseHead(status=Status.OK), form.write(b"hello"), True
                )
                return bool(server.send(answer)) and frame.data == asked.data
    except LocalProtocolError:
        return False
    return False
