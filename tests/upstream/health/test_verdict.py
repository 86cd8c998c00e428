"""Thresholds, and the time to the next check: each number of Envoy's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.config.health import CheckConfig, HealthCheckConfig
from xproxy.model.limits import Duration
from xproxy.upstream.health.records import CheckRecord
from xproxy.upstream.health.verdict import Change, failed, next_interval, passed, shortest_interval


def config(**options: object) -> HealthCheckConfig:
    given = {"timeout": 1.0, "interval": 5.0, "unhealthy_threshold": 3, "healthy_threshold": 2}
    return HealthCheckConfig(check=CheckConfig(name="x"), **given | options)  # type: ignore[arg-type]  # by name


def test_the_first_check_decides_alone() -> None:
    record = CheckRecord()
    assert passed(record, 100) is Change.CHANGED
    assert not record.failed
    record = CheckRecord()
    assert failed(record, 100, "x", at_once=False) is Change.CHANGED
    assert record.failed


def test_so_many_failures_in_a_row_make_it_unhealthy() -> None:
    record = CheckRecord()
    passed(record, 2)
    outcomes = [failed(record, 3, "x", at_once=False) for _ in range(2)]
    passed(record, 2)
    outcomes += [failed(record, 3, "why", at_once=False) for _ in range(4)]
    pending, changed, none = Change.PENDING, Change.CHANGED, Change.NONE
    assert outcomes == [pending, pending, pending, pending, changed, none]
    assert record.detail == "why"


def test_a_wrong_answer_does_so_at_once() -> None:
    record = CheckRecord()
    passed(record, 2)
    assert failed(record, 3, "answered 503", at_once=True) is Change.CHANGED


def test_so_many_passed_in_a_row_make_it_healthy() -> None:
    record = CheckRecord()
    failed(record, 3, "x", at_once=False)
    assert passed(record, 3) is Change.PENDING
    assert passed(record, 3) is Change.PENDING
    failed(record, 3, "x", at_once=False)
    assert [passed(record, 3) for _ in range(4)] == [
        Change.PENDING,
        Change.PENDING,
        Change.CHANGED,
        Change.NONE,
    ]
    assert not record.failed


@given(st.lists(st.sampled_from("pfa"), min_size=1), st.integers(1, 4), st.integers(1, 4))
def test_against_a_plain_reading_of_the_rules(outcomes: list[str], up: int, down: int) -> None:
    record = CheckRecord()
    for at, outcome in enumerate(outcomes):
        was = record.failed
        if outcome == "p":
            passed(record, up)
        else:
            failed(record, down, "x", at_once=outcome == "a")
        so_far = "".join(outcomes[: at + 1])
        if at == 0:
            wanted = outcome != "p"
        elif was:
            since = so_far.rstrip("p")
            wanted = not (since and len(so_far) - len(since) >= up)
        else:
            row = len(so_far) - len(so_far.rstrip("fa"))
            wanted = outcome == "a" or (outcome == "f" and row >= down)
        assert record.failed is wanted


@pytest.mark.parametrize(
    ("healthy", "change", "traffic", "options", "seconds"),
    [
        (True, Change.NONE, True, {}, 5),
        (False, Change.NONE, True, {}, 5),
        # unhealthy_interval and the edges default to their parents
        (False, Change.NONE, True, {"unhealthy_interval": 7.0}, 7),
        (False, Change.PENDING, True, {"unhealthy_interval": 7.0}, 7),
        (False, Change.PENDING, True, {"unhealthy_edge_interval": 2.0}, 2),
        (False, Change.CHANGED, True, {"unhealthy_edge_interval": 2.0}, 5),
        (True, Change.PENDING, True, {"unhealthy_interval": 7.0}, 5),
        (True, Change.PENDING, True, {"healthy_edge_interval": 3.0}, 3),
        (True, Change.CHANGED, True, {"healthy_edge_interval": 3.0}, 5),
        # no_traffic_interval 60 s
        (True, Change.NONE, False, {}, 60),
        (False, Change.NONE, False, {"unhealthy_interval": 7.0}, 60),
        (True, Change.NONE, False, {"no_traffic_healthy_interval": 90.0}, 90),
        (True, Change.PENDING, False, {"no_traffic_healthy_interval": 90.0}, 60),
        # jitter: 0 unless given; half of it is drawn here
        (True, Change.NONE, True, {"interval_jitter": 4.0}, 7),
        (True, Change.NONE, True, {"interval_jitter_percent": 40}, 6),
    ],
)
def test_the_next_interval(
    healthy: bool, change: Change, traffic: bool, options: dict[str, object], seconds: float
) -> None:
    wait = next_interval(config(**options), change, lambda: 0.5, healthy=healthy, traffic=traffic)
    assert wait == pytest.approx(seconds)


def test_defaults_are_envoys() -> None:
    """reuse_connection true, no_traffic_interval 60 s, interval_jitter 0."""
    found = config()
    assert found.reuse_connection
    assert found.no_traffic_interval == Duration(60.0)
    assert (found.interval_jitter, found.initial_jitter) == (Duration(0), Duration(0))
    assert found.interval_jitter_percent == 0


@pytest.mark.parametrize("key", ["timeout", "interval", "unhealthy_threshold", "healthy_threshold"])
def test_what_is_mandatory_has_no_default(key: str) -> None:
    given = {"timeout": 1.0, "interval": 5.0, "unhealthy_threshold": 3, "healthy_threshold": 2}
    del given[key]
    with pytest.raises(TypeError, match=key):
        HealthCheckConfig(check=CheckConfig(name="x"), **given)  # type: ignore[arg-type]  # by name


def test_the_shortest_interval_is_of_those_given() -> None:
    assert shortest_interval(config()) == 5
    assert shortest_interval(config(unhealthy_edge_interval=0.5)) == 0.5
    assert shortest_interval(config(interval=90.0)) == 60
