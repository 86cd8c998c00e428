"""HTTP/1.1 keep-alive, 1 KiB answers, at saturation: CPU per request and requests/s."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from bench import tools, upstreams
from bench.lab import Lab
from bench.load import Load, rpcload, web_with_wrk
from bench.proxies.envoy import Envoy
from bench.proxies.mitmproxy import Mitmproxy
from bench.proxies.nginx import Nginx
from bench.proxies.proxy_py import ProxyPy
from bench.proxies.xproxy import Xproxy
from bench.rows.row import CPU, PER_REQUEST, RATE, Goal, Row, under_requests


def _has_wrk() -> bool:
    try:
        tools.wrk()
    except tools.Missing:
        return False
    return True


def _load(lab: Lab, port: int, seconds: int, *, connections: int, varying: bool) -> Load:
    if _has_wrk():
        script = "wrk_varying.lua" if varying else ""
        return web_with_wrk(lab, port, connections=connections, seconds=seconds, script=script)
    return rpcload(
        lab, port, protocol="http", connections=connections, seconds=seconds, varying=varying
    )


@contextmanager
def _upstream(lab: Lab, *, varying: bool) -> Iterator[int]:
    # What makes rpcload's heads differ is a nonce, and it wants it back: only its own server does that.
    with upstreams.rpcload(lab, "http") if varying and not _has_wrk() else upstreams.web(lab) as up:
        yield up


def _row(connections: int) -> Row:
    load = partial(_load, connections=connections, varying=False)
    proxies = (Envoy(), Xproxy(), Nginx(), Mitmproxy(), ProxyPy())
    return Row(
        key=f"http1-{connections}",
        title=f"HTTP/1.1 keep-alive, 1 KiB, {connections} connections",
        figures=PER_REQUEST,
        upstream=partial(_upstream, varying=False),
        contenders=tuple(under_requests(proxy, "http1", load) for proxy in proxies),
        goals=(
            Goal(figure=CPU.key, peer="envoy", bound=0.9),
            Goal(figure=RATE.key, peer="mitmproxy", bound=10.0, better="higher"),
        ),
        note="all requests have the same head, so what a proxy remembers of heads helps it most here",
    )


def _varying_row() -> Row:
    load = partial(_load, connections=32, varying=True)
    return Row(
        key="http1-varying",
        title="HTTP/1.1 keep-alive, 1 KiB, 32 connections, no two heads alike",
        figures=PER_REQUEST,
        upstream=partial(_upstream, varying=True),
        contenders=tuple(under_requests(p, "http1", load) for p in (Envoy(), Xproxy(), Nginx())),
        goals=(Goal(figure=CPU.key, peer="envoy", bound=1.15),),
        note="each request carries a header never seen before: nothing remembered of whole heads helps",
    )


ROWS = (_row(32), _row(128), _varying_row())
