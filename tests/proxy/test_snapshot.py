from __future__ import annotations

from random import Random

import attrs
import trio
from trio.testing import wait_all_tasks_blocked

from tests.live import PATIENCE, registry
from xproxy.codecs.detect import DetectCounters
from xproxy.config.load import load_text
from xproxy.config.schema import TimeoutsConfig
from xproxy.connection.service import Service
from xproxy.proxy.build import Tools, build
from xproxy.proxy.snapshot import Snapshot
from xproxy.stream.exchange import Request, Response
from xproxy.transport.poller import Poller
from xproxy.transport.timers import Timers
from xproxy.upstream.ticker import Ticker

REGISTRY = registry()
TEXT = """
listeners: [{name: edge, address: "127.0.0.1:1", fallback: {cluster: raw}}]
clusters: {raw: {endpoints: ["127.0.0.1:6"]}}
"""


def leave(service: Service) -> None:
    """End one of its streams."""
    service.streams -= 1
    if service.drained is not None and not service.streams:
        service.emptied()


async def refuse(request: Request) -> Response:
    raise NotImplementedError


def service() -> Service:
    return Service(refuse, TimeoutsConfig(), 1, 1, 1)


def snapshot(main: Service, fallback: Service | None) -> Snapshot:
    poller = Poller()
    poller.close()
    tools = Tools(REGISTRY, poller, Timers(), Ticker(), Random(1), DetectCounters())
    built = build(load_text(TEXT, "test.yaml", REGISTRY), tools)
    plan = attrs.evolve(built.listeners["edge"], service=main, fallback=fallback)
    return attrs.evolve(built, listeners={"edge": plan})


def test_what_runs_is_clusters_and_parts() -> None:
    one = snapshot(service(), None)
    assert one.running == (*one.clusters.values(), *one.parts)


async def test_an_idle_snapshot_is_not_waited_for() -> None:
    with trio.fail_after(PATIENCE):
        await snapshot(service(), None).wait_idle()


async def test_the_last_stream_of_each_service_is_waited_for() -> None:
    main, fallback = service(), service()
    main.streams, fallback.streams = 2, 1
    idle = False

    async def wait() -> None:
        nonlocal idle
        await snapshot(main, fallback).wait_idle()
        idle = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        for leaving in (main, fallback, main):
            await wait_all_tasks_blocked()
            assert not idle
            leave(leaving)
    assert idle


async def test_one_service_in_two_places_is_waited_for_once() -> None:
    both = service()
    both.streams = 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(snapshot(both, both).wait_idle)
        await wait_all_tasks_blocked()
        leave(both)
