from __future__ import annotations

import pytest

from xproxy.config.schema import CircuitBreakersConfig
from xproxy.model.errors import Overflow
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
    with pytest.raises(Overflow, match=r"web: 2 requests are in flight \(max_requests\)"):
        full.refuse_request()
    assert full.stats.upstream_rq_pending_overflow == 1


def test_waiting_requests_are_bounded_by_name() -> None:
    full = breaker(max_pending_requests=1)
    full.check_pending()
    full.stats.upstream_rq_pending_active = 1
    with pytest.raises(Overflow, match=r"max_pending_requests"):
        full.check_pending()
    assert full.stats.upstream_rq_pending_overflow == 1


def test_none_may_wait_where_the_limit_is_zero() -> None:
    with pytest.raises(Overflow):
        breaker(max_pending_requests=0).check_pending()


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
    full = breaker(max_retries=2)
    assert full.acquire()
    assert full.acquire()
    assert not full.acquire()
    assert full.stats.upstream_rq_retry_overflow == 1
    full.release()
    assert full.acquire()
    assert full.stats.upstream_rq_retry_active == 2
    assert full.stats.upstream_rq_retry == 3


def test_an_overflow_is_never_a_reason_to_retry() -> None:
    # More of the same is what a full cluster needs least (semantics of Envoy: x-envoy-overloaded).
    assert Overflow.condition == ""
    assert Overflow.flag == "UO"
