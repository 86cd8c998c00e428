"""Dubbo 2 and Thrift, many requests in flight on few connections: CPU per request, beside Bolt in the same rounds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal

from bench import upstreams
from bench.lab import Lab
from bench.load import Load, Spoken, rpcload
from bench.proxies.envoy import Envoy
from bench.proxies.xproxy import Xproxy
from bench.rows.row import CPU, PER_REQUEST, Contender, Goal, Probe, Row, under_requests

_BOLT = "xproxy, Bolt"


def _load(lab: Lab, port: int, seconds: int, *, protocol: Spoken) -> Load:
    return rpcload(lab, port, protocol=protocol, connections=8, in_flight=32, seconds=seconds)


def _bolt() -> Contender:
    """Return xproxy between a client and an upstream of its own that speak Bolt."""
    through = under_requests(Xproxy(filters=()), "bolt", partial(_load, protocol="bolt"))

    @contextmanager
    def start(lab: Lab, upstream: int) -> Iterator[Probe]:
        with upstreams.rpcload(lab, "bolt") as port, through.start(lab, port) as probe:
            yield probe

    return Contender(name=_BOLT, version=through.version, start=start)


def _row(protocol: Literal["dubbo", "thrift"], title: str, note: str) -> Row:
    load = partial(_load, protocol=protocol)
    return Row(
        key=protocol,
        title=f"{title}, 8 connections × 32 in flight, 256 B",
        figures=PER_REQUEST,
        upstream=partial(upstreams.rpcload, protocol=protocol),
        contenders=(
            under_requests(Envoy(), protocol, load),
            under_requests(Xproxy(filters=()), protocol, load),
            under_requests(Xproxy(), protocol, load, name="xproxy, two filters"),
            _bolt(),
        ),
        goals=(
            Goal(figure=CPU.key, peer="envoy", bound=1.0),
            Goal(figure=CPU.key, peer=_BOLT, bound=1.3),
        ),
        note=note,
    )


ROWS = (
    _row("dubbo", "Dubbo 2", "Envoy's dubbo_proxy is compared with its router alone"),
    _row(
        "thrift",
        "Thrift, framed, binary",
        "an upstream connection carries one call at a time here and in Envoy, so nothing is batched towards it",
    ),
)
