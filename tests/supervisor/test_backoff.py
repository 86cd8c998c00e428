"""Pauses before a worker is started again."""

from __future__ import annotations

from xproxy.supervisor.backoff import HEALTHY, MOST, Backoff


def test_at_once_then_twice_as_long_each_time_up_to_a_bound() -> None:
    backoff = Backoff()
    found = [backoff.next(1.0) for _ in range(12)]
    assert found[:5] == [0.0, 0.1, 0.2, 0.4, 0.8]
    assert found[-1] == MOST
    assert [backoff.next(0.0) for _ in range(2000)][-1] == MOST


def test_a_worker_that_was_well_for_a_while_is_started_at_once() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.next(0.0)
    assert backoff.next(HEALTHY) == 0.0
    assert backoff.next(HEALTHY - 1) == 0.1
