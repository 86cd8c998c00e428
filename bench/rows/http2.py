"""HTTP/2 in clear text, many streams on few connections: CPU per request, to both kinds of upstream, and gRPC."""

from __future__ import annotations

from functools import partial

from bench import upstreams
from bench.lab import RPC_PAYLOAD_BYTES, Lab
from bench.load import Load, with_h2load
from bench.proxies.envoy import Envoy
from bench.proxies.nginx import Nginx
from bench.proxies.xproxy import Xproxy
from bench.rows.row import CPU, PER_STREAM, Goal, Row, under_requests

CONNECTIONS, STREAMS = 8, 32


def _load(lab: Lab, port: int, seconds: int, *, body: bytes | None = None) -> Load:
    return with_h2load(
        lab, port, connections=CONNECTIONS, streams=STREAMS, seconds=seconds, body=body
    )


_grpc = partial(_load, body=upstreams.GRPC_MESSAGE)
_GOALS = (Goal(figure=CPU.key, peer="envoy", bound=1.0),)
_TITLE = f"{CONNECTIONS} connections × {STREAMS} streams"

ROWS = (
    Row(
        key="http2-http1",
        title=f"HTTP/2 to an HTTP/1.1 upstream, 1 KiB, {_TITLE}",
        figures=PER_STREAM,
        upstream=upstreams.web,
        contenders=tuple(under_requests(p, "http2", _load) for p in (Envoy(), Xproxy(), Nginx())),
        goals=_GOALS,
        note="all requests have the same head; bytes of the answers are counted, not compared",
    ),
    Row(
        key="http2-http2",
        title=f"HTTP/2 to an HTTP/2 upstream, 1 KiB, {_TITLE}",
        figures=PER_STREAM,
        upstream=upstreams.http2,
        contenders=tuple(under_requests(p, "http2-http2", _load) for p in (Envoy(), Xproxy())),
        goals=_GOALS,
        note="all requests have the same head; bytes of the answers are counted, not compared",
    ),
    Row(
        key="grpc",
        title=f"gRPC unary, {RPC_PAYLOAD_BYTES} B, {_TITLE}",
        figures=PER_STREAM,
        upstream=upstreams.grpc,
        contenders=tuple(under_requests(p, "http2-http2", _grpc) for p in (Envoy(), Xproxy())),
        goals=_GOALS,
        note="a POST whose answer ends with trailers; h2load does not look at the status in them",
    ),
)
