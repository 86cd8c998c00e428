"""Counters of one cluster: plain integers, read when somebody asks. Names are Envoy's."""

from __future__ import annotations

import attrs

from xproxy.model.status import Status

_GAUGE = {"kind": "gauge"}


@attrs.define(eq=False)
class ClusterStats:
    """Counters and gauges of one cluster."""

    upstream_cx_total: int = 0
    upstream_cx_active: int = attrs.field(default=0, metadata=_GAUGE)
    upstream_cx_connect_fail: int = 0
    upstream_cx_overflow: int = 0
    upstream_cx_none_healthy: int = 0
    """Requests refused, as no endpoint was healthy."""
    upstream_cx_pools: int = attrs.field(default=0, metadata=_GAUGE)
    """Pools of connections, one for each endpoint and protocol in use."""
    upstream_cx_pool_overflow: int = 0
    """Requests refused, as there may be no other pool."""
    lb_subsets_selected: int = 0
    """Requests sent to the subset that they wanted."""
    lb_subsets_fallback: int = 0
    """Requests for which there was no subset."""
    lb_healthy_panic: int = 0
    """Requests sent to endpoints healthy or not, as too few were healthy."""
    upstream_tls_handshakes: int = 0
    """That went well; the others are connect failures."""
    upstream_tls_resumed: int = 0
    """Of these, how many resumed a session."""
    upstream_cx_idle_timeout: int = 0
    upstream_cx_destroy_remote: int = 0
    """Closed by the endpoint while unused."""
    upstream_rq_total: int = 0
    upstream_rq_active: int = attrs.field(default=0, metadata=_GAUGE)
    upstream_rq_pending_active: int = attrs.field(default=0, metadata=_GAUGE)
    upstream_rq_pending_overflow: int = 0
    upstream_rq_cancelled: int = 0
    """Given up because the client went away or a deadline passed."""
    upstream_rq_reset: int = 0
    """No whole answer came."""
    upstream_rq_resent: int = 0
    """Sent again on a fresh connection, as an idle one had been closed at that moment."""
    upstream_rq_retry: int = 0
    upstream_rq_retry_active: int = attrs.field(default=0, metadata=_GAUGE)
    upstream_rq_retry_overflow: int = 0
    discovery_updates: int = 0
    """Times that other endpoints were found."""
    discovery_failed: int = 0
    """Times that none were found out, and the last ones stayed."""
    upstream_rq_high_active: int = attrs.field(default=0, metadata=_GAUGE)
    """Of the high priority …"""
    upstream_rq_high_pending_active: int = attrs.field(default=0, metadata=_GAUGE)
    """… that wait for a connection …"""
    upstream_rq_high_retry_active: int = attrs.field(default=0, metadata=_GAUGE)
    """… and that are retries."""
    remaining: dict[str, int] = attrs.field(
        factory=dict, metadata={"label": "resource", "kind": "gauge"}
    )
    """What is left of the circuit breakers' bounds, by Envoy's names, where they are tracked."""
    endpoint_failing: int = 0
    """Times an endpoint was marked as failing."""
    membership_total: int = attrs.field(default=0, metadata=_GAUGE)
    membership_healthy: int = attrs.field(default=0, metadata=_GAUGE)
    """Fit and not degraded, whatever failing of late says."""
    membership_degraded: int = attrs.field(default=0, metadata=_GAUGE)
    """Fit, but degraded."""
    membership_excluded: int = attrs.field(default=0, metadata=_GAUGE)
    """Not checked yet."""
    ejections_active: int = attrs.field(default=0, metadata=_GAUGE)
    """Endpoints that outlier detection has ejected."""
    outlier_detection: dict[str, int] = attrs.field(factory=dict, metadata={"label": "event"})
    """Ejections, by Envoy's names."""
    health_check: dict[str, int] = attrs.field(factory=dict, metadata={"label": "event"})
    """Active health checks, by Envoy's names."""
    statuses: dict[Status, int] = attrs.field(factory=dict, metadata={"label": "status"})
    """Answers by neutral status."""
