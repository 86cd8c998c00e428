from __future__ import annotations

import attrs
import pytest

from xproxy.model.status import Status
from xproxy.observe.histogram import Histogram
from xproxy.observe.metrics import StatsRegistry, counter, counters, gauge, histogram


@attrs.define(eq=False)
class Stats:
    upstream_rq_total: int = counter("Requests sent.")
    upstream_cx_active: int = gauge("Connections open.")
    plain: int = 0
    upstream_rq_time: Histogram = histogram("Seconds to the head.", (0.1, 1.0))  # noqa: RUF009 - a field
    statuses: dict[Status, int] = counters("status", "Responses.")  # noqa: RUF009 - a field
    name: str = "no number"
    flag: bool = True
    _private: int = 7


@pytest.fixture
def registry() -> StatsRegistry:
    registry = StatsRegistry()
    stats = Stats()
    stats.upstream_rq_total += 5
    stats.upstream_cx_active = 2
    stats.upstream_rq_time.observe(0.1)
    stats.upstream_rq_time.observe(7)
    stats.statuses[Status.OK] = 4
    stats.statuses[Status.DEADLINE_EXCEEDED] = 1
    registry.add("cluster", "reviews", stats)
    return registry


def test_text_has_a_line_for_each_number(registry: StatsRegistry) -> None:
    registry.add("cluster", "a", Stats())
    lines = registry.render_text().splitlines()
    assert lines[0] == "cluster.a.upstream_rq_total: 0"
    assert lines[4:] == [
        "cluster.reviews.upstream_rq_total: 5",
        "cluster.reviews.upstream_cx_active: 2",
        "cluster.reviews.plain: 0",
        "cluster.reviews.upstream_rq_time: count=2 sum=7.1 P50<=0.1 P90<=inf P99<=inf",
        "cluster.reviews.statuses.deadline-exceeded: 1",
        "cluster.reviews.statuses.ok: 4",
    ]


def test_prometheus_has_a_family_for_each_field(registry: StatsRegistry) -> None:
    registry.add("cluster", 'quo"te', Stats())
    lines = registry.render_prometheus().decode().splitlines()
    assert "# HELP xproxy_cluster_upstream_rq_total Requests sent." in lines
    assert "# TYPE xproxy_cluster_upstream_rq_total counter" in lines
    assert lines.count("# TYPE xproxy_cluster_upstream_cx_active gauge") == 1
    for wanted in (
        'xproxy_cluster_upstream_rq_total{cluster="reviews"} 5.0',
        'xproxy_cluster_upstream_rq_total{cluster="quo\\"te"} 0.0',
        'xproxy_cluster_upstream_cx_active{cluster="reviews"} 2.0',
        'xproxy_cluster_plain_total{cluster="reviews"} 0.0',
        'xproxy_cluster_upstream_rq_time_bucket{cluster="reviews",le="0.1"} 1.0',
        'xproxy_cluster_upstream_rq_time_bucket{cluster="reviews",le="+Inf"} 2.0',
        'xproxy_cluster_upstream_rq_time_count{cluster="reviews"} 2.0',
        'xproxy_cluster_statuses_total{cluster="reviews",status="ok"} 4.0',
    ):
        assert wanted in lines


def test_a_kind_without_names_has_no_label() -> None:
    registry = StatsRegistry()
    registry.add("server", "", Stats())
    assert "server.plain: 0" in registry.render_text().splitlines()
    assert "xproxy_server_plain_total 0.0" in registry.render_prometheus().decode().splitlines()


def test_statistics_outlive_what_they_count(registry: StatsRegistry) -> None:
    first = registry.ensure("listener", "edge", Stats)
    first.plain = 3
    assert registry.ensure("listener", "edge", Stats) is first
    registry.remove("listener", "edge")
    registry.remove("listener", "edge")
    assert registry.ensure("listener", "edge", Stats) is not first


def test_only_attrs_classes_can_be_shown() -> None:
    with pytest.raises(TypeError, match="not an attrs class"):
        StatsRegistry().add("x", "y", object())
