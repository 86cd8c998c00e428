"""SOFA Bolt, many requests in flight on few connections: CPU per request."""

from __future__ import annotations

from functools import partial

from bench import upstreams
from bench.lab import Lab
from bench.load import Load, rpcload
from bench.proxies.xproxy import Xproxy
from bench.rows.row import CPU, PER_REQUEST, Goal, Row, under_requests


def _load(lab: Lab, port: int, seconds: int) -> Load:
    return rpcload(lab, port, protocol="bolt", connections=8, in_flight=32, seconds=seconds)


ROWS = (
    Row(
        key="bolt",
        title="Bolt, 8 connections × 32 in flight, 256 B",
        figures=PER_REQUEST,
        upstream=partial(upstreams.rpcload, protocol="bolt"),
        contenders=(
            under_requests(Xproxy(filters=()), "bolt", _load),
            under_requests(Xproxy(), "bolt", _load, name="xproxy, two filters"),
            under_requests(Xproxy(), "l4", _load, name="xproxy as L4 relay"),
        ),
        goals=(Goal(figure=CPU.key, bound=0.5 * 31),),
        note="the two filters give each message an id of its own, so that none can be sent on as it is; "
        "no peer that speaks Bolt can be installed from a package; for reference: MOSN 0.26 took 31 µs "
        "on 2 virtual CPUs (AMD EPYC), not measured in this run. The goal is half of it",
    ),
)
