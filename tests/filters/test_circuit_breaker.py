from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from xproxy.filters.circuit_breaker import CircuitBreaker
from xproxy.filters.direct_response import DirectResponse
from xproxy.model.errors import (
    ConnectFailed,
    DeadlineExceeded,
    Overflow,
    RequestBroken,
    StreamError,
)
from xproxy.model.frames import Trailers
from xproxy.model.headers import Headers
from xproxy.model.limits import Duration
from xproxy.model.status import Status
from xproxy.stream.carrying import SupportsCarry
from xproxy.stream.lifetime import SupportsStatistics

Kit = Any  # Any: conftest.py cannot be imported


def new(**fields: Any) -> CircuitBreaker:
    return CircuitBreaker(circuit="pay", **fields)


def bad(kit: Kit) -> Any:
    return kit.response(503, status=Status.UNAVAILABLE)


async def opened(kit: Kit, **fields: Any) -> CircuitBreaker:
    one = new(**fields)
    for _ in range(20):
        await one(kit.rpc(), kit.upstream(bad(kit)))
    return one


def test_defaults_are_1_s_100_10_s_20_and_50_percent() -> None:
    one = new()
    assert (one.timeout, one.max_concurrent, one.sleep_window) == (1.0, 100, 10.0)
    assert (one.request_volume, one.error_percent) == (20, 50.0)
    assert isinstance(one, SupportsCarry)
    assert isinstance(one, SupportsStatistics)


async def test_it_opens_and_a_probe_closes_it(
    kit: Kit, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    one = await opened(kit)
    kind, name, stats = one.statistics()
    assert (kind, name, stats.opened, stats.is_open) == ("circuit_breaker", "pay", 1, 1)
    upstream = kit.upstream()
    with pytest.raises(Overflow, match="pay: it is open"):
        await one(kit.web(), upstream)
    await trio.sleep(10)
    await one(kit.web(), upstream)
    await one(kit.web(), upstream)
    assert len(upstream.seen) == 2
    assert (stats.short_circuited, stats.half_opened, stats.closed, stats.is_open) == (1, 1, 1, 0)
    assert [line.split("pay ")[1][:8] for line in caplog.messages] == [
        "is open ",
        "is half ",
        "is close",
    ]


async def test_a_failed_probe_opens_it_again(kit: Kit, autojump_clock: MockClock) -> None:
    one = await opened(kit)
    await trio.sleep(10)
    await one(kit.web(), kit.upstream(bad(kit)))
    await trio.sleep(9)
    with pytest.raises(Overflow):
        await one(kit.web(), kit.upstream())
    assert one.statistics()[2].opened == 2


@pytest.mark.parametrize("protocol", ["web", "rpc"])
async def test_the_fallback_is_answered(kit: Kit, autojump_clock: MockClock, protocol: str) -> None:
    one = await opened(kit, fallback=DirectResponse(status=Status.OK, body="later"))
    request = getattr(kit, protocol)()
    response = await one(request, kit.upstream())
    assert response.head.status is Status.OK
    assert response.head.extra.detail == "later"
    assert request.record.flags == "UO"
    assert request.record.detail == "circuit breaker pay: it is open"
    assert one.statistics()[2].fallback == 1


async def test_who_takes_longer_than_a_second_has_failed(
    kit: Kit, autojump_clock: MockClock
) -> None:
    one = new()
    start = trio.current_time()
    with pytest.raises(DeadlineExceeded, match="1 s"):
        await one(kit.web(), kit.upstream(trio.Event()))
    assert trio.current_time() - start == 1.0
    stats = one.statistics()[2]
    assert (stats.timeout, stats.failure, stats.active) == (1, 1, 0)


async def test_more_than_so_many_at_a_time_are_refused(kit: Kit, autojump_clock: MockClock) -> None:
    one = new(max_concurrent=2, timeout=Duration(0.0))
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(one, kit.web(), kit.upstream(trio.Event()))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Overflow, match="max_concurrent"):
            await one(kit.web(), kit.upstream())
        nursery.cancel_scope.cancel()
    stats = one.statistics()[2]
    assert (stats.rejected, stats.active, stats.failure) == (1, 0, 0)


@pytest.mark.parametrize(
    ("error", "failed"),
    [(ConnectFailed("x"), 1), (Overflow("x"), 0), (RequestBroken("x"), 0)],
)
async def test_only_the_upstreams_failures_count(
    kit: Kit, autojump_clock: MockClock, error: StreamError, failed: int
) -> None:
    one = new()
    with pytest.raises(type(error)):
        await one(kit.web(), kit.upstream(error))
    assert one.statistics()[2].failure == failed


async def test_a_call_says_at_its_end_how_it_went(kit: Kit, autojump_clock: MockClock) -> None:
    one = new()
    body = kit.body(b"1", Trailers(1, Headers(), Status.INTERNAL))
    response = await one(kit.rpc(), kit.upstream(kit.response(None, body=body)))
    stats = one.statistics()[2]
    assert await response.body.receive() == b"1"
    assert (stats.success, stats.failure) == (0, 0)
    await response.body.receive()
    assert (stats.success, stats.failure) == (0, 1)


async def test_a_probe_whose_client_leaves_is_followed_by_another(
    kit: Kit, autojump_clock: MockClock
) -> None:
    one = await opened(kit)
    await trio.sleep(10)
    with trio.move_on_after(0.5):
        await one(kit.web(), kit.upstream(trio.Event()))
    await one(kit.web(), kit.upstream())
    assert one.statistics()[2].is_open == 0


async def test_another_process_goes_on(kit: Kit, autojump_clock: MockClock) -> None:
    old, following = await opened(kit), new()
    assert new().carry() == b""
    assert old.carried_as() == following.carried_as()
    following.resume(old.carry())
    with pytest.raises(Overflow):
        await following(kit.web(), kit.upstream())
    await trio.sleep(10)
    await following(kit.web(), kit.upstream())
    with pytest.raises(ValueError, match="circuit breaker"):
        following.resume(b"?")


@pytest.mark.parametrize("fields", [{"max_concurrent": 0}, {"error_percent": 101}, {"window": 0}])
def test_bad_configuration_is_refused(fields: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        new(**fields)
