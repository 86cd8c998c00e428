from __future__ import annotations

from xproxy.observe.metrics import StatsRegistry
from xproxy.upstream.stats import ClusterStats

ENVOYS = {
    "upstream_cx_total",
    "upstream_cx_active",
    "upstream_cx_connect_fail",
    "upstream_cx_overflow",
    "upstream_cx_idle_timeout",
    "upstream_cx_destroy_remote",
    "upstream_rq_total",
    "upstream_rq_active",
    "upstream_rq_pending_active",
    "upstream_rq_pending_overflow",
    "upstream_rq_retry",
    "upstream_rq_retry_overflow",
}


def test_the_names_that_dashboards_know_are_there() -> None:
    metrics = StatsRegistry()
    metrics.add("cluster", "web", ClusterStats())
    text = metrics.render_text()
    for name in ENVOYS:
        assert f"cluster.web.{name}: 0\n" in text


def test_what_goes_up_and_down_is_a_gauge() -> None:
    metrics = StatsRegistry()
    metrics.add("cluster", "web", ClusterStats())
    exposed = metrics.render_prometheus().decode()
    for name in ENVOYS:
        kind = "gauge" if name.endswith("_active") else "counter"
        shown = name if kind == "gauge" or name.endswith("_total") else f"{name}_total"
        assert f"# TYPE xproxy_cluster_{shown} {kind}" in exposed
