from __future__ import annotations

import pytest

from tests.alive import parts
from tests.connection.kit import request_of
from xproxy.config.schema import CircuitBreakersConfig
from xproxy.model.errors import Overflow
from xproxy.stream.exchange import Closable, Request, Response
from xproxy.upstream.breaker import Breaker
from xproxy.upstream.stats import ClusterStats


def breaker(**limits: int) -> Breaker:
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
    full = breaker(max_connections=1)
    full.check_connect(0)
    full.stats.upstream_cx_active = 1
    with pytest.raises(Overflow, match=r"1 connections are open \(max_connections\)"):
        full.check_connect(1)
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
