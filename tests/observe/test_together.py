"""Numbers of several processes on one page."""

from __future__ import annotations

import attrs

from xproxy.observe.histogram import Histogram
from xproxy.observe.metrics import (
    StatsRegistry,
    counter,
    counters,
    gauge,
    gauges,
    histogram,
    prometheus_of,
    text_of,
)
from xproxy.observe.together import Share, together
from xproxy.observe.totals import Totals


@attrs.define(eq=False)
class Stats:
    total: int = counter("How many.")
    active: int = gauge("Now.")
    seconds: Histogram = histogram("How long.", (1.0, 2.0))  # noqa: RUF009 - a field
    statuses: dict[str, int] = counters("status", "Which.")  # noqa: RUF009 - a field
    waiting: dict[str, int] = gauges("protocol", "Who.")  # noqa: RUF009 - a field


def share(worker: int, active: int, seconds: float, name: str = "web") -> Share:
    counted, now = Totals(), Totals()
    place = ("cluster", name)
    taken = Histogram((1.0, 2.0))
    taken.observe(seconds)
    counted.put(place, "total", 2 + worker)
    counted.put(place, "seconds", taken)
    counted.put(place, "statuses", {"ok": 1, f"own-{worker}": 1})
    if active:
        now.put(place, "active", active)
        now.put(place, "waiting", {"http1": active})
    return Share({"generation": "7", "worker": str(worker)}, counted, now)


def registry() -> StatsRegistry:
    found = StatsRegistry()
    found.add("cluster", "web", Stats(total=99))
    found.add("cluster", "idle", Stats())
    return found


def test_counters_add_up_and_gauges_are_also_shown_one_by_one() -> None:
    shares = [share(0, 0, 0.5), share(1, 3, 1.5), share(2, 4, 1.5)]
    lines = text_of(together(registry(), shares, sums=True)).splitlines()
    assert lines == [
        "cluster.idle.total: 0",
        "cluster.idle.active: 0",
        "cluster.idle.seconds: count=0 sum=0 P50<=0 P90<=0 P99<=0",
        "cluster.web.total: 9",
        "cluster.web.active: 7",
        "cluster.web.active{generation=7,worker=1}: 3",
        "cluster.web.active{generation=7,worker=2}: 4",
        "cluster.web.seconds: count=3 sum=3.5 P50<=2 P90<=2 P99<=2",
        "cluster.web.statuses.ok: 3",
        "cluster.web.statuses.own-0: 1",
        "cluster.web.statuses.own-1: 1",
        "cluster.web.statuses.own-2: 1",
        "cluster.web.waiting.http1: 7",
        "cluster.web.waiting.http1{generation=7,worker=1}: 3",
        "cluster.web.waiting.http1{generation=7,worker=2}: 4",
    ]


def test_prometheus_has_gauges_of_each_process_and_counters_of_all() -> None:
    shares = [share(0, 0, 0.5), share(1, 3, 1.5)]
    page = prometheus_of(together(registry(), shares, sums=False)).decode()
    assert 'xproxy_cluster_total{cluster="web"} 5.0' in page
    assert 'xproxy_cluster_active{cluster="web",generation="7",worker="0"} 0.0' in page
    assert 'xproxy_cluster_active{cluster="web",generation="7",worker="1"} 3.0' in page
    assert 'xproxy_cluster_active{cluster="web"}' not in page
    assert 'xproxy_cluster_seconds_bucket{cluster="web",le="2.0"} 2.0' in page
    assert 'protocol="http1"' in page


def test_what_only_another_has_is_shown_as_its_kind_is() -> None:
    elsewhere = share(1, 3, 1.5, "new")
    elsewhere.counters.put(("plugin", "x"), "calls", 4)
    elsewhere.counters.put(("plugin", "x"), "by", {"a": 1})
    shares = [share(0, 0, 0.5), elsewhere]
    lines = text_of(together(registry(), shares, sums=True)).splitlines()
    assert {"cluster.new.total: 3", "plugin.x.calls: 4", "plugin.x.by.a: 1"} <= set(lines)
    page = prometheus_of(together(registry(), shares, sums=False)).decode()
    assert 'xproxy_cluster_statuses_total{cluster="new",status="ok"} 1.0' in page
    assert 'xproxy_plugin_by_total{key="a",plugin="x"} 1.0' in page


def test_another_shape_is_passed_over() -> None:
    other = share(1, 0, 1.5)
    other.counters.put(("cluster", "web"), "seconds", Histogram((5.0,)))
    lines = text_of(together(registry(), [share(0, 0, 0.5), other], sums=True)).splitlines()
    assert "cluster.web.seconds: count=1 sum=0.5 P50<=1 P90<=1 P99<=1" in lines
