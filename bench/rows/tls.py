"""TLS in front of HTTP/1.1 upstreams: requests on connections kept open, and new connections."""

from __future__ import annotations

from bench import upstreams
from bench.lab import Lab
from bench.load import Load, handshakes, web_with_wrk, with_h2load
from bench.proxies.envoy import Envoy
from bench.proxies.nginx import Nginx
from bench.proxies.xproxy import Xproxy
from bench.rows.http2 import CONNECTIONS, STREAMS
from bench.rows.row import (
    CPU,
    P50,
    P99,
    PER_REQUEST,
    PER_STREAM,
    RATE,
    USE,
    Figure,
    Goal,
    Row,
    under_requests,
)

_KEPT = 32
_NEW_PER_SECOND = 1000
_PROXIES = (Envoy(), Xproxy(), Nginx())
_SUITES = (
    "TLS 1.3, the same certificate for all (ECDSA, P-256); each proxy chooses the cipher suite: "
    "of what wrk and h2load offer first, OpenSSL takes AES-256-GCM, BoringSSL (Envoy) AES-128-GCM"
)


def _http1(lab: Lab, port: int, seconds: int) -> Load:
    return web_with_wrk(lab, port, connections=_KEPT, seconds=seconds, tls=True)


def _http2(lab: Lab, port: int, seconds: int) -> Load:
    return with_h2load(
        lab, port, connections=CONNECTIONS, streams=STREAMS, seconds=seconds, tls=True
    )


def _new(lab: Lab, port: int, seconds: int) -> Load:
    return handshakes(lab, port, rate=_NEW_PER_SECOND, seconds=seconds)


_EACH = Figure(key=CPU.key, label="CPU per connection", unit="µs", digits=0)
_OPENED = Figure(key=RATE.key, label="connections/s", unit="/s", digits=0)

ROWS = (
    Row(
        key="tls-http1",
        title=f"HTTP/1.1 keep-alive over TLS, 1 KiB, {_KEPT} connections",
        figures=PER_REQUEST,
        upstream=upstreams.web,
        contenders=tuple(under_requests(proxy, "tls", _http1) for proxy in _PROXIES),
        goals=(Goal(figure=CPU.key, peer="envoy", bound=1.0),),
        note=_SUITES,
    ),
    Row(
        key="tls-http2",
        title=f"HTTP/2 over TLS, 1 KiB, {CONNECTIONS} connections × {STREAMS} streams",
        figures=PER_STREAM,
        upstream=upstreams.web,
        contenders=tuple(under_requests(proxy, "tls", _http2) for proxy in _PROXIES),
        goals=(Goal(figure=CPU.key, peer="envoy", bound=1.0),),
        note=_SUITES,
    ),
    Row(
        key="tls-handshakes",
        title=f"{_NEW_PER_SECOND:,} new TLS connections/s, each a full handshake and one request",
        figures=(_EACH, _OPENED, P50, P99, USE),
        upstream=upstreams.web,
        contenders=tuple(under_requests(proxy, "tls", _new) for proxy in _PROXIES),
        note="an open loop on Python's ssl, no session is resumed; time counts from when a connection was due "
        "until its one answer was complete; CPU per connection includes accepting it and that request",
    ),
)
