"""What the pages show of a proxy that has served something."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.live import GET, Live, answering, eventually, running, upstream, web
from xproxy.admin.pages import (
    PAGES,
    Page,
    clusters,
    configuration,
    health_of,
    index,
    prometheus,
    ready,
    stats,
)
from xproxy.model.address import Address
from xproxy.model.status import Status
from xproxy.upstream.endpoint import Degraded, Endpoint, Unfit
from xproxy.upstream.health.records import CheckRecord


@asynccontextmanager
async def one_request_served() -> AsyncIterator[Live]:
    async with upstream() as up, running(web(up.port)) as live, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, answering())
        client = await live.client()
        await client.send(GET)
        await eventually(
            lambda: live.stats().downstream_rq_active == 0 < live.stats().downstream_rq_total,
            "served",
        )
        yield live
        nursery.cancel_scope.cancel()


async def test_every_counter_is_a_line_of_its_own() -> None:
    async with one_request_served() as live:
        lines = stats(live.runtime).body.decode().splitlines()
        assert "listener.edge.downstream_rq_total: 1" in lines
        assert "listener.edge.statuses.ok: 1" in lines
        assert "cluster.web.upstream_rq_total: 1" in lines
        assert "detection.recognised.http1: 1" in lines


async def test_prometheus_gets_the_same_numbers_with_labels() -> None:
    async with one_request_served() as live:
        page = prometheus(live.runtime)
        assert page.content_type.startswith("text/plain; version=0.0.4")
        lines = page.body.decode().splitlines()
        assert 'xproxy_listener_downstream_rq_total{listener="edge"} 1.0' in lines
        assert 'xproxy_listener_statuses_total{listener="edge",status="ok"} 1.0' in lines
        assert "# TYPE xproxy_cluster_upstream_cx_active gauge" in lines


async def test_clusters_shows_each_endpoint_and_its_health() -> None:
    async with one_request_served() as live:
        endpoint = live.cluster().endpoints[0]
        line = clusters(live.runtime).body.decode()
        assert line.startswith(
            f"web::{endpoint.address}::weight=1 health=healthy rq_active=0 rq_total=1"
        )
        endpoint.failing_until = trio.current_time() + 10
        assert "health=failing " in clusters(live.runtime).body.decode()
        endpoint.unfit = Unfit.EJECTED | Unfit.FAILED_CHECK
        check = CheckRecord()
        check.failed, check.detail = True, "answered 503"
        endpoint.checks = (check,)
        health = "failed_active_hc,failed_outlier_check,failing"
        said = f'health={health} why="answered 503" rq_active='
        assert said in clusters(live.runtime).body.decode()


@pytest.mark.parametrize(
    ("unfit", "degraded", "word"),
    [
        (Unfit.FAILED_CHECK, 0, "failed_active_hc"),
        (Unfit.UNCHECKED, 0, "pending_active_hc"),
        (Unfit.EJECTED, 0, "failed_outlier_check"),
        (Unfit.DISCOVERED, 0, "failed_discovery"),
        (0, Degraded.CHECKED, "degraded"),
        (0, 0, "healthy"),
    ],
)
def test_why_an_endpoint_is_not_asked(unfit: int, degraded: int, word: str) -> None:
    endpoint = Endpoint(Address("192.0.2.1", 80), unfit=unfit, degraded=degraded)
    assert health_of(endpoint, 0.0) == word


async def test_members_are_counted() -> None:
    async with one_request_served() as live:
        lines = stats(live.runtime).body.decode().splitlines()
        assert "cluster.web.membership_total: 1" in lines
        assert "cluster.web.membership_healthy: 1" in lines
        assert "cluster.web.membership_degraded: 0" in lines
        assert "cluster.web.membership_excluded: 0" in lines


async def test_the_configuration_is_shown_with_its_defaults() -> None:
    async with running(web(1)) as live:
        shown = json.loads(configuration(live.runtime).body)
        assert shown["generation"] == 1
        assert shown["config"]["listeners"][0]["timeouts"]["idle"] == "1h"


async def test_ready_turns_unavailable_when_the_proxy_drains() -> None:
    async with running(web(1)) as live:
        assert ready(live.runtime) == Page("text/plain; charset=utf-8", b"LIVE\n")
        live.runtime.draining = True
        assert ready(live.runtime).status is Status.UNAVAILABLE
        assert ready(live.runtime).body == b"DRAINING\n"


async def test_the_index_names_every_page() -> None:
    async with running(web(1)) as live:
        lines = index(live.runtime).body.decode().splitlines()
        assert [line.split()[0] for line in lines] == list(PAGES)
        assert all(len(line.split()) > 2 for line in lines)
