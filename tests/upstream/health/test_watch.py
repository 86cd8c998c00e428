"""A cluster's health in a whole proxy: what requests find out, and what becomes of connections."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

import pytest
import trio

from tests.health_checks.kit import answering_in
from tests.live import (
    GET,
    Live,
    answering,
    eventually,
    http_response,
    read_head,
    refusing_port,
    running,
    upstream,
    web,
)
from xproxy.model.status import Status
from xproxy.upstream.endpoint import Unfit

EJECTING: Final = (
    "{consecutive_5xx: 2, always_eject_one_host: true, interval: 50ms, base_ejection_time: 1h}"
)
CODE: Final = re.compile(rb"HTTP/1.1 (\d+) .*?\r\n\r\n", re.DOTALL)


def saying(*statuses: str, **headers: str) -> Callable[[trio.SocketStream], Awaitable[None]]:
    """Answer with these, one after the other, the last for ever."""
    left = list(statuses)

    async def serve(stream: trio.SocketStream) -> None:
        while await read_head(stream):
            status = left.pop(0) if len(left) > 1 else left[0]
            await stream.send_all(http_response(b"", status, **headers))

    return serve


async def codes(live: Live, count: int) -> list[int]:
    client = await live.client()
    found = []
    for _ in range(count):
        await client.send(GET)
        head = await client.expect(re.compile(rb"HTTP/1.1 .*?\r\n\r\n", re.DOTALL))
        body = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if body is not None and int(body[1]):
            await client.expect(re.compile(rb".{%b}" % body[1], re.DOTALL))
        found.append(int(head[9:12]))
    return found


def ejected(live: Live) -> list[bool]:
    return [bool(one.unfit & Unfit.EJECTED) for one in live.cluster().endpoints]


async def test_who_answers_5xx_gets_no_more_requests() -> None:
    """consecutive 5xx, over HTTP/1.1."""
    async with upstream() as good, upstream() as bad, trio.open_nursery() as nursery:
        nursery.start_soon(good.serve, answering())
        nursery.start_soon(bad.serve, saying("500 No"))
        async with running(web(good.port, bad.port, outlier_detection=EJECTING)) as live:
            assert sorted(await codes(live, 4)) == [200, 200, 500, 500]
            assert ejected(live) == [False, True]
            assert await codes(live, 5) == [200] * 5
            stats = live.cluster().stats
            assert stats.ejections_active == 1
            assert stats.membership_healthy == 1
            assert stats.outlier_detection["ejections_enforced_consecutive_5xx"] == 1
        nursery.cancel_scope.cancel()


async def test_a_code_that_the_neutral_status_does_not_tell_apart() -> None:
    """429 is no 5xx, though the same neutral status of another protocol counts as one."""
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, saying("429 No"))
        async with running(web(up.port, outlier_detection=EJECTING)) as live:
            assert await codes(live, 4) == [429] * 4
            assert ejected(live) == [False]
        nursery.cancel_scope.cancel()


async def test_who_cannot_be_reached_is_ejected() -> None:
    dead = refusing_port()
    async with upstream() as good, trio.open_nursery() as nursery:
        nursery.start_soon(good.serve, answering())
        async with running(web(good.port, dead, outlier_detection=EJECTING)) as live:
            await codes(live, 4)
            assert ejected(live) == [False, True]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("protocol", ["bolt", "dubbo", "thrift"])
async def test_calls_of_any_protocol_count(protocol: str) -> None:
    """The neutral status is what counts."""
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, answering_in(protocol, Status.INTERNAL))
        text = web(up.port, outlier_detection=EJECTING, codec=protocol)
        async with running(text) as live:
            await codes(live, 2)
            assert ejected(live) == [True]
        nursery.cancel_scope.cancel()


async def test_a_try_that_takes_too_long_counts_as_504() -> None:
    routes = "filters: [{name: timeout, seconds: 20ms}]\n      cluster: web"
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, _silent)
        text = web(up.port, outlier_detection=EJECTING).replace("cluster: web", routes, 1)
        async with running(text) as live:
            assert await codes(live, 2) == [504, 504]
            await eventually(lambda: ejected(live) == [True], "ejected")
            record = live.cluster().endpoints[0].outliers
            assert record is not None
            assert record.consecutive_gateway_failure == 2
        nursery.cancel_scope.cancel()


async def _silent(stream: trio.SocketStream) -> None:
    async for _ in stream:
        pass


async def test_an_ejected_endpoint_comes_back() -> None:
    detection = EJECTING.replace("1h", "10ms")
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, saying("500 No", "500 No", "200 OK"))
        async with running(web(up.port, outlier_detection=detection)) as live:
            assert await codes(live, 2) == [500, 500]
            await eventually(lambda: ejected(live) == [False], "it is back")
            assert await codes(live, 1) == [200]
        nursery.cancel_scope.cancel()


async def test_an_ejection_goes_on_after_a_reload_and_ends_without_detection() -> None:
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, saying("500 No"))
        text = web(up.port, outlier_detection=EJECTING)
        async with running(text) as live:
            await codes(live, 2)
            await live.reload(text + "    idle_timeout: 9s\n")
            assert ejected(live) == [True]
            assert live.cluster().stats.ejections_active == 1
            await live.reload(web(up.port))
            assert ejected(live) == [False]
            assert live.cluster().stats.membership_healthy == 1
        nursery.cancel_scope.cancel()


CHECK: Final = (
    "[{timeout: 9s, interval: 10ms, no_traffic_interval: 10ms, unhealthy_threshold: 1,"
    " healthy_threshold: 2, check: tcp}]"
)


async def test_an_answer_can_say_that_its_endpoint_is_unhealthy() -> None:
    """x-envoy-immediate-health-check-fail in normal traffic: until checks pass again."""
    header = {"x_envoy_immediate_health_check_fail": "true"}
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, saying("200 OK", **header))
        slow = CHECK.replace("interval: 10ms, n", "interval: 1h, n").replace(
            "c_interval: 10ms", "c_interval: 1h"
        )
        async with running(web(up.port, health_checks=slow)) as live:
            endpoint = live.cluster().endpoints[0]
            await eventually(lambda: not endpoint.unfit, "the first check passed")
            assert await codes(live, 1) == [200]
            assert endpoint.unfit == Unfit.FAILED_CHECK
            assert live.cluster().stats.health_check["passive_failure"] == 1
        nursery.cancel_scope.cancel()


async def test_who_becomes_unfit_loses_its_idle_connections() -> None:
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, saying("500 No"))
        async with running(web(up.port, outlier_detection=EJECTING)) as live:
            await codes(live, 2)
            endpoint = live.cluster().endpoints[0]
            await eventually(lambda: endpoint.connections == 0, "it is closed")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("cut", [False, True])
async def test_what_is_in_flight_is_finished_or_cut(cut: bool) -> None:
    """close_connections_on_host_health_failure decides."""
    async with upstream() as up:
        text = web(
            up.port,
            outlier_detection=EJECTING,
            close_connections_on_host_health_failure=str(cut).lower(),
        )
        async with running(text) as live, trio.open_nursery() as nursery:
            waiting = await live.client()
            await waiting.send(GET)
            held = await up.accept()
            assert await read_head(held)
            nursery.start_soon(up.serve, saying("500 No"))
            assert await codes(live, 2) == [500, 500]
            await eventually(lambda: live.cluster().endpoints[0].connections <= 1, "idle ones")
            if cut:
                await waiting.expect(re.compile(rb"HTTP/1.1 50[23] "))
            else:
                await held.send_all(http_response(b"late"))
                await waiting.expect(re.compile(rb"HTTP/1.1 200 .*late", re.DOTALL))
            nursery.cancel_scope.cancel()


async def test_a_check_that_passes_ends_an_ejection() -> None:
    """successful_active_health_check_uneject_host true: ejected ones are checked."""
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, saying("500 No"))
        text = web(up.port, outlier_detection=EJECTING, health_checks=CHECK)
        async with running(text) as live:
            await codes(live, 2)
            await eventually(lambda: ejected(live) == [False], "it is back")
            stats = live.cluster().stats
            assert stats.outlier_detection["ejections_enforced_total"] >= 1
        nursery.cancel_scope.cancel()


async def test_it_may_be_told_not_to() -> None:
    detection = EJECTING[:-1] + ", successful_active_health_check_uneject_host: false}"
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, saying("500 No"))
        async with running(web(up.port, outlier_detection=detection, health_checks=CHECK)) as live:
            await codes(live, 2)
            counts = live.cluster().stats.health_check
            before = counts.get("success", 0)
            await eventually(lambda: counts.get("success", 0) > before + 3, "checks pass")
            assert ejected(live) == [True]
        nursery.cancel_scope.cancel()
