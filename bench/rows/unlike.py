"""No two requests and no two answers alike, as in real traffic: path, cookie, ids, trace and bodies differ."""

from __future__ import annotations

from functools import partial

from bench import upstreams
from bench.lab import BODY_BYTES, RPC_PAYLOAD_BYTES, Lab
from bench.load import Load, h2vary, web_with_wrk
from bench.proxies.envoy import Envoy
from bench.proxies.nginx import Nginx
from bench.proxies.xproxy import Xproxy
from bench.rows.http2 import CONNECTIONS, STREAMS
from bench.rows.row import CPU, PER_REQUEST, Goal, Row, under_requests

_KEPT = 32
_GOALS = (Goal(figure=CPU.key, peer="envoy", bound=1.15),)
_NOTE = (
    "nothing remembered of whole heads or blocks helps: path, cookie, request id, trace and a nonce are new in each "
    "request; id, etag, cookie and body in each answer"
)


def _http1(lab: Lab, port: int, seconds: int, *, tls: bool = False) -> Load:
    return web_with_wrk(
        lab, port, connections=_KEPT, seconds=seconds, script="wrk_unlike.lua", tls=tls
    )


def _http2(lab: Lab, port: int, seconds: int, *, grpc: bool = False) -> Load:
    size = upstreams.GRPC_PREFIX_BYTES + RPC_PAYLOAD_BYTES if grpc else BODY_BYTES
    return h2vary(
        lab, port, connections=CONNECTIONS, streams=STREAMS, seconds=seconds, size=size, grpc=grpc
    )


ROWS = (
    Row(
        key="http1-unlike",
        title=f"HTTP/1.1 keep-alive, 1 KiB, {_KEPT} connections, no two requests or answers alike",
        figures=PER_REQUEST,
        upstream=upstreams.unlike,
        contenders=tuple(under_requests(p, "http1", _http1) for p in (Envoy(), Xproxy(), Nginx())),
        goals=_GOALS,
        note=_NOTE,
    ),
    Row(
        key="http2-unlike",
        title=f"HTTP/2 to HTTP/1.1, 1 KiB, {CONNECTIONS} × {STREAMS} streams, no two requests or answers alike",
        figures=PER_REQUEST,
        upstream=upstreams.unlike,
        contenders=tuple(under_requests(p, "http2", _http2) for p in (Envoy(), Xproxy(), Nginx())),
        goals=_GOALS,
        note=f"{_NOTE}; each answer is checked for the nonce of its request",
    ),
    Row(
        key="grpc-unlike",
        title=f"gRPC unary, {RPC_PAYLOAD_BYTES} B, {CONNECTIONS} × {STREAMS} streams, no two calls or answers alike",
        figures=PER_REQUEST,
        upstream=upstreams.grpc_unlike,
        contenders=tuple(
            under_requests(p, "http2-http2", partial(_http2, grpc=True))
            for p in (Envoy(), Xproxy())
        ),
        goals=_GOALS,
        note="request id, trace, nonce and message are new in each call; id, etag and message in each answer, "
        "which is checked for the nonce of its call",
    ),
    Row(
        key="tls-unlike",
        title=f"HTTP/1.1 over TLS, 1 KiB, {_KEPT} connections, no two requests or answers alike",
        figures=PER_REQUEST,
        upstream=upstreams.unlike,
        contenders=tuple(
            under_requests(p, "tls", partial(_http1, tls=True))
            for p in (Envoy(), Xproxy(), Nginx())
        ),
        goals=_GOALS,
        note=_NOTE,
    ),
)
