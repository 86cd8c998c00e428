from __future__ import annotations

from typing import Any

import pytest

from tests.alive import parts
from tests.attempts import ENDPOINT
from tests.connection.kit import request_of
from xproxy.config.breakers import (
    CircuitBreakersConfig,
    PriorityThresholdsConfig,
    RetryBudgetConfig,
)
from xproxy.model.errors import Overflow
from xproxy.observe.metrics import StatsRegistry
from xproxy.stream.exchange import Closable, Request, Response
from xproxy.upstream.breaker import Breaker
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.stats import ClusterStats


def breaker(**limits: Any) -> Breaker:
    return Breaker(CircuitBreakersConfig(**limits), ClusterStats(), "web")


def test_the_defaults_are_envoys() -> None:
    limits = breaker().limits
    assert (limits.max_connections, limits.max_pending_requests) == (1024, 1024)
    assert (limits.max_requests, limits.max_retries) == (1024, 3)


def test_a_request_above_the_limit_is_counted_and_refused() -> None:
    # Whether it is above is asked for every request, in the cluster (test_cluster.py).
    full = breaker(max_requests=2)
    full.stats.upstream_rq_active = 1
    full.check_request(request_of())
    full.stats.upstream_rq_active = 2
    with pytest.raises(Overflow, match=r"web: 2 requests are in flight \(max_requests\)"):
        full.check_request(request_of())
    assert full.stats.upstream_rq_pending_overflow == 1


def test_waiting_requests_are_bounded_by_name() -> None:
    full = breaker(max_pending_requests=1)
    full.check_pending(request_of())
    full.stats.upstream_rq_pending_active = 1
    with pytest.raises(Overflow, match=r"max_pending_requests"):
        full.check_pending(request_of())
    assert full.stats.upstream_rq_pending_overflow == 1


def test_none_may_wait_where_the_limit_is_zero() -> None:
    with pytest.raises(Overflow):
        breaker(max_pending_requests=0).check_pending(request_of())


class Client:
    """A client's connection, as far as its share is asked for."""

    draining = False

    def __init__(self, streams: int, asked: int) -> None:
        self.streams = streams
        self.asked = asked

    def in_flight(self, _permits: object) -> int:
        return self.asked

    def bind(self, key: object, bound: Closable) -> None:
        raise NotImplementedError

    def bound(self, key: object) -> Closable | None:
        raise NotImplementedError

    def unbind(self, key: object) -> None:
        raise NotImplementedError

    def drain(self) -> None:
        raise NotImplementedError

    async def call(self, request: Request) -> Response:
        raise NotImplementedError


def request_from(client: Client) -> Request:
    request = request_of()
    request.connection.downstream = client
    return request


@pytest.mark.parametrize(
    ("most", "percent", "share"), [(1024, 50, 512), (1, 50, 1), (3, 50, 2), (10, 1, 1), (7, 100, 7)]
)
def test_a_share_is_rounded_up(most: int, percent: int, share: int) -> None:
    assert breaker(max_requests=most, connection_share=percent).ample == share


def test_one_connection_has_its_share_and_no_more() -> None:
    full = breaker(max_requests=10)
    full.stats.upstream_rq_active = 5
    greedy, other = Client(6, 5), Client(6, 4)
    full.check_request(request_from(other))
    with pytest.raises(Overflow, match=r"5 requests of one client's connection .*50 % of max_req"):
        full.check_request(request_from(greedy))
    # What it has in flight elsewhere is not held against it.
    full.check_request(request_from(Client(600, 0)))
    all_of_it = breaker(max_requests=10, connection_share=100)
    all_of_it.stats.upstream_rq_active = 9
    all_of_it.check_request(request_from(Client(10, 9)))


def test_and_of_those_that_wait() -> None:
    full = breaker(max_pending_requests=10)
    greedy = request_from(Client(6, 5))
    full.stats.upstream_rq_pending_active = 4
    full.check_pending(greedy)
    full.stats.upstream_rq_pending_active = 5
    full.check_pending(request_of())
    with pytest.raises(Overflow, match="max_pending_requests"):
        full.check_pending(greedy)


def test_connections_up_to_the_limit_and_one_in_any_case() -> None:
    full = breaker(max_connections=2)
    full.stats.upstream_cx_active = 1
    assert full.may_connect(1)
    full.stats.upstream_cx_active = 2
    assert not full.may_connect(1)
    assert full.stats.upstream_cx_overflow == 1
    assert full.may_connect(0)
    assert full.stats.upstream_cx_overflow == 1


def test_a_client_that_needs_its_own_connection_is_refused_at_once() -> None:
    full, endpoint = breaker(max_connections=1), Endpoint(ENDPOINT)
    full.check_connect(endpoint, request_of())
    full.stats.upstream_cx_active = endpoint.connections = 1
    with pytest.raises(Overflow, match=r"1 connections are open \(max_connections\)"):
        full.check_connect(endpoint, request_of())
    assert full.stats.upstream_cx_overflow == 1


def test_retries_in_flight_are_permits_that_come_back() -> None:
    full = breaker(max_retries=2, connection_share=100)
    assert full.acquire(1)
    assert full.acquire(1)
    assert not full.acquire(1)
    assert full.stats.upstream_rq_retry_overflow == 1
    full.release(1)
    assert full.acquire(1)
    assert full.stats.upstream_rq_retry_active == 2
    assert full.stats.upstream_rq_retry == 3


def test_one_connection_has_its_share_of_the_retries() -> None:
    full = breaker()
    one, other = 1, 2
    assert full.acquire(one)
    assert full.acquire(one)
    assert not full.acquire(one), "two of three"
    assert full.acquire(other)
    assert not full.acquire(other), "three are in flight"
    for client in (one, other, one):
        full.release(client)
    assert parts(full, dict) == [{}], "nothing is kept of clients without retries"
    assert full.stats.upstream_rq_retry_overflow == 2


def test_an_overflow_is_never_a_reason_to_retry() -> None:
    # More of the same is what a full cluster needs least (semantics of Envoy: x-envoy-overloaded).
    assert Overflow.condition == ""
    assert Overflow.flag == "UO"


def test_leave_that_was_given_to_open_a_connection_counts() -> None:
    full = breaker(max_connections=2)
    full.stats.upstream_cx_active = 1
    assert full.can_connect(1)
    assert not full.can_connect(1, granted=1)
    assert full.can_connect(0), "one is always allowed"
    assert not full.can_connect(0, granted=1), "and one is enough"
    assert full.stats.upstream_cx_overflow == 0
    assert not full.may_connect(1, granted=1)
    assert full.stats.upstream_cx_overflow == 1


def high(**limits: Any) -> Request:
    request = request_of(**limits)
    request.record.priority = 1
    return request


def test_each_priority_has_bounds_of_its_own_and_the_first_entry_wins() -> None:
    full = breaker(
        max_requests=7,
        thresholds=(
            PriorityThresholdsConfig(priority="high", max_requests=2),
            PriorityThresholdsConfig(priority="high", max_requests=9),
            PriorityThresholdsConfig(max_requests=3),
        ),
    )
    assert (full.limits.max_requests, full.high.limits.max_requests) == (3, 2)
    full.stats.upstream_rq_active = 4
    full.stats.upstream_rq_high_active = 2
    full.check_request(request_of())
    with pytest.raises(Overflow, match="2 requests"):
        full.check_request(high())
    full.stats.upstream_rq_active = 4
    full.stats.upstream_rq_high_active = 1
    full.check_request(high())
    with pytest.raises(Overflow, match="3 requests"):
        full.check_request(request_of())


def test_a_priority_without_an_entry_has_the_defaults_1024_1024_1024_3() -> None:
    limits = breaker(max_requests=1, max_retries=0).high.limits
    assert (limits.max_connections, limits.max_pending_requests) == (1024, 1024)
    assert (limits.max_requests, limits.max_retries) == (1024, 3)
    assert limits.max_connection_pools is None
    assert limits.track_remaining is False
    assert limits.retry_budget is None


def test_what_waits_counts_for_its_priority() -> None:
    full = breaker(max_pending_requests=1)
    full.of(high()).count_pending(1)
    full.check_pending(request_of())
    full.of(request_of()).count_pending(1)
    with pytest.raises(Overflow):
        full.check_pending(request_of())
    full.of(high()).check_pending(high())
    assert full.stats.upstream_rq_pending_active == 2
    full.of(high()).count_pending(-1)
    assert full.stats.upstream_rq_high_pending_active == 0


def test_retries_count_for_their_priority() -> None:
    full = breaker(max_retries=1)
    assert full.high.acquire(1)
    assert full.acquire(1)
    assert not full.acquire(2)
    assert full.high.acquire(2)
    assert full.stats.upstream_rq_retry_active == 3
    for one in (1, 2):
        full.high.release(one)
    full.release(1)
    assert full.stats.upstream_rq_retry_active == full.stats.upstream_rq_high_retry_active == 0


def test_a_retry_budget_is_20_percent_of_what_is_in_flight_and_3_at_least() -> None:
    full = breaker(retry_budget=RetryBudgetConfig(), max_retries=0, connection_share=100)
    for active, most in ((0, 3), (15, 3), (19, 3), (20, 4), (100, 20)):
        full.stats.upstream_rq_active = active
        taken = 0
        while full.acquire(1):
            taken += 1
        assert taken == most
        for _ in range(taken):
            full.release(1)
    assert full.stats.upstream_rq_retry_overflow == 5


def test_an_endpoint_has_a_bound_of_its_own() -> None:
    full, endpoint = breaker(max_connections_per_endpoint=2), Endpoint(ENDPOINT)
    endpoint.connections = 1
    assert full.may_connect(1, 0, endpoint, request_of())
    endpoint.connections = 2
    assert not full.may_connect(2, 0, endpoint, request_of())
    assert full.stats.upstream_cx_overflow == 1
    assert full.can_connect(0, 0, endpoint, request_of()), "one is always allowed"
    with pytest.raises(Overflow, match="max_connections_per_endpoint"):
        full.check_connect(endpoint, request_of())
    assert full.may_connect(2, 0, endpoint, high()), "its priority has no such bound"


def test_pools_are_bounded_where_it_is_said() -> None:
    full = breaker(max_connection_pools=1)
    full.check_pool()
    full.stats.upstream_cx_pools = 1
    with pytest.raises(Overflow, match="max_connection_pools"):
        full.check_pool()
    assert full.stats.upstream_cx_pool_overflow == 1
    full.high.check_pool()


def test_what_remains_is_shown_where_it_is_tracked() -> None:
    assert breaker().stats.remaining == {}
    full = breaker(track_remaining=True, max_requests=10)
    full.stats.upstream_rq_active = 4
    full.stats.upstream_cx_active = 2000
    shown = StatsRegistry()
    shown.add("cluster", "web", full.stats)
    text = shown.render_text()
    assert "cluster.web.remaining.default.remaining_rq: 6\n" in text
    assert "cluster.web.remaining.default.remaining_cx: 0\n" in text
    assert "cluster.web.remaining.default.remaining_retries: 3\n" in text
    assert "remaining_cx_pools" not in text, "without a bound nothing is left of it"
    assert "high" not in text.replace("_high_", "")
