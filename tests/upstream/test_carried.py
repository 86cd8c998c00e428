"""What is known of endpoints goes along as durations, and only as far as it fits."""

from __future__ import annotations

import math

import msgpack
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.live import (
    GET,
    Live,
    answering,
    eventually,
    registry,
    running,
    unused_port,
    upstream,
    web,
)
from tests.secure import ca
from tests.upstream.balance.test_api import REQUEST
from xproxy.config.load import load_text
from xproxy.config.schema import ClusterConfig
from xproxy.stream.carrying import SupportsCarry, cut_now
from xproxy.upstream.balance.edf import EarliestDeadlineFirst
from xproxy.upstream.balance.round_robin import InTurn
from xproxy.upstream.carried import AgreedProtocols, BalancerTurn, EndpointMarks, Protocols
from xproxy.upstream.endpoint import Endpoint


def part_of(live: Live, kind: str) -> SupportsCarry:
    return next(part for part in live.cluster().carrying() if part.carried_as().kind == kind)


def config(text: str = "") -> ClusterConfig:
    return load_text(text or web(1), "test.yaml", registry()).clusters["web"]


async def test_an_endpoint_that_failed_is_chosen_last_there_too() -> None:
    async with upstream() as good, upstream() as bad, trio.open_nursery() as nursery:
        nursery.start_soon(good.serve, answering())
        text = web(good.port, bad.port)
        async with running(text) as old, running(text) as new:
            assert part_of(old, "endpoint marks").carry() == b""
            failing = old.cluster().endpoints[1]
            failing.failures_in_a_row, failing.failing_until = 7, trio.current_time() + 9
            data = part_of(old, "endpoint marks").carry()
            part_of(new, "endpoint marks").resume(data)
            marked = new.cluster().endpoints[1]
            assert marked.failures_in_a_row == 7
            assert 5 < marked.failing_until - trio.current_time() <= 9
            for _ in range(4):
                client = await new.client()
                await client.send(GET)
            await eventually(lambda: new.cluster().endpoints[0].total == 4, "four requests")
            assert marked.total == 0
        nursery.cancel_scope.cancel()


def marks(endpoints: list[Endpoint], told: list[int]) -> EndpointMarks:
    return EndpointMarks(
        "web", config(web(1, failure_time="10m")), endpoints, lambda: told.append(1)
    )


async def test_no_mark_is_longer_than_configured_and_the_way_is_taken_off() -> None:
    endpoints = [Endpoint(one.address) for _ in range(2) for one in config(web(1, 2)).endpoints]
    told: list[int] = []
    written = [
        {"endpoint": "127.0.0.1:1", "failures": 3, "failing": 1e6},
        {"endpoint": "127.0.0.1:2#2", "failures": 4, "failing": 30.0},
        {"endpoint": "127.0.0.1:2", "failures": 1, "failing": 15.0},
        {"endpoint": "127.0.0.1:9", "failures": 1, "failing": 3.0},
    ]
    fields = {"cut": cut_now() - 20, "marks": written}
    marks(endpoints, told).resume(msgpack.packb(["endpoint marks", 1, fields]))
    now = trio.current_time()
    assert [endpoint.failures_in_a_row for endpoint in endpoints] == [3, 1, 0, 4]
    left = [endpoint.failing_until - now for endpoint in endpoints]
    assert 500 < left[0] <= 580, "failure_time is 10m"
    assert endpoints[1].failing_until == 0
    assert 0 < left[3] <= 10
    assert len(told) == 2


@given(data=st.binary(max_size=60))
async def test_any_bytes_are_refused(data: bytes) -> None:
    endpoint = Endpoint(config().endpoints[0].address)
    turn = BalancerTurn("web", "round_robin", lambda: InTurn([endpoint], 0))
    agreed = AgreedProtocols("web", config(), dict, lambda _: None)
    for part in (marks([endpoint], []), turn, agreed):
        with pytest.raises(ValueError, match=r"snapshot of"):
            part.resume(data)
    assert endpoint.failures_in_a_row == 0


async def test_marks_are_read_whole_before_any_is_set() -> None:
    endpoint = Endpoint(config().endpoints[0].address)
    good = {"endpoint": "127.0.0.1:1", "failures": 3, "failing": 1.0}
    for bad in ({}, good | {"failures": -1}, good | {"failing": 2}, good | {"more": 1}):
        data = msgpack.packb(["endpoint marks", 1, {"cut": 1.0, "marks": [good, bad]}])
        with pytest.raises(ValueError, match="snapshot of endpoint marks"):
            marks([endpoint], []).resume(data)
    assert endpoint.failures_in_a_row == 0


async def test_the_balancer_goes_on_with_the_next() -> None:
    text = web(1, 2, 3)
    async with running(text) as old, running(text) as new:
        part_of(new, "balancer turn").resume(part_of(old, "balancer turn").carry())
        assert part_of(new, "balancer turn").carry() == part_of(old, "balancer turn").carry()
    async with running(web(1, load_balancer="random")) as drawn:
        assert part_of(drawn, "balancer turn").carry() == b""
        with pytest.raises(ValueError, match="random has no turns here"):
            part_of(drawn, "balancer turn").resume(b"")


async def test_what_an_endpoint_agreed_on_is_known_before_the_first_connection() -> None:
    port = unused_port()
    text = web(port, codec="alpn", tls=f"{{ca: {ca()}, sni: edge.test}}")
    told: list[Protocols] = []
    known: Protocols = {"http2": {f"127.0.0.1:{port}": "http1"}}
    old = AgreedProtocols("web", config(text), lambda: known, told.append)
    data = old.carry()
    old.resume(data)
    assert told == [known]
    assert AgreedProtocols("web", config(text), lambda: {"http2": {}}, told.append).carry() == b""
    async with running(text) as new:
        agreed = part_of(new, "agreed protocols")
        assert agreed.carry() == b""
        agreed.resume(data)
        assert agreed.carry() == data
        client = await new.client()
        await client.send(GET)
        await eventually(lambda: new.cluster().stats.upstream_cx_connect_fail > 0, "a failure")
        # Now a connector is there, and what its agreement knows counts.
        assert agreed.carry() == data
        agreed.resume(old.carry().replace(b"http1", b"http2"))
        assert agreed.carry() != data


async def test_a_slow_start_goes_on_where_it_was() -> None:
    text = web(1, 2, load_balancer="{name: round_robin, slow_start: {window: 100s}}")
    async with running(text) as old, running(text) as new, running(web(1, 2)) as quick:
        assert part_of(old, "slow starts").carry() == b""
        old.cluster().endpoints[1].since = trio.current_time() - 10
        part_of(new, "slow starts").resume(part_of(old, "slow starts").carry())
        ages = [trio.current_time() - one.since for one in new.cluster().endpoints]
        assert ages[0] == math.inf
        assert 10 <= ages[1] < 100
        assert "slow starts" not in {one.carried_as().kind for one in quick.cluster().carrying()}
        with pytest.raises(ValueError, match="snapshot of"):
            part_of(new, "slow starts").resume(b"x")
        # And it counts: the next choice is among unequal ones.
        assert new.cluster()._choice.choose(REQUEST) in new.cluster().endpoints
        assert isinstance(new.cluster()._choice.picker, EarliestDeadlineFirst)
