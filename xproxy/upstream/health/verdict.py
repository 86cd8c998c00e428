"""What a check's outcome makes of an endpoint, and when the next check comes: arithmetic, without a clock.

(idea: envoy:source/extensions/health_checkers/common/health_checker_base_impl.cc)
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from xproxy.config.health import HealthCheckConfig
from xproxy.upstream.health.records import CheckRecord


class Change(enum.Enum):
    """What an outcome has changed."""

    NONE = "none"
    PENDING = "pending"
    """Not yet: more of the same will."""
    CHANGED = "changed"


def passed(record: CheckRecord, threshold: int) -> Change:
    """Take note that a check passed. The first one decides alone."""
    first, record.pending = record.pending, False
    record.failures = 0
    record.detail = ""
    if not (record.failed or first):
        return Change.NONE
    record.successes += 1
    if not first and record.successes < threshold:
        return Change.PENDING
    record.failed = False
    record.successes = 0
    return Change.CHANGED


def failed(record: CheckRecord, threshold: int, detail: str, *, at_once: bool) -> Change:
    """Take note that a check failed; ``at_once``: whatever ``threshold`` says. The first one decides alone."""
    first, record.pending = record.pending, False
    record.successes = 0
    record.detail = detail
    if record.failed:
        return Change.NONE
    record.failures += 1
    if not (at_once or first) and record.failures < threshold:
        return Change.PENDING
    record.failed = True
    record.failures = 0
    return Change.CHANGED


def next_interval(
    config: HealthCheckConfig,
    change: Change,
    draw: Callable[[], float],
    *,
    healthy: bool,
    traffic: bool,
) -> float:
    """Return after how many seconds the next check comes.

    ``healthy``: this one passed. ``traffic``: the cluster has had a request, ever. ``draw``: gives 0 … 1.
    """
    if not traffic:
        base = config.no_traffic_interval
        if healthy and change is not Change.PENDING:
            base = config.no_traffic_healthy_interval or base
    elif healthy:
        base = config.interval
        if change is Change.PENDING:
            base = config.healthy_edge_interval or base
    else:
        base = config.unhealthy_interval or config.interval
        if change is Change.PENDING:
            base = config.unhealthy_edge_interval or base
    jitter = config.interval_jitter * draw() if config.interval_jitter else 0.0
    if config.interval_jitter_percent:
        jitter += base * config.interval_jitter_percent / 100 * draw()
    return base + jitter


def shortest_interval(config: HealthCheckConfig) -> float:
    """Return the shortest time, in seconds, that may lie between two checks."""
    given = (
        config.interval,
        config.unhealthy_interval,
        config.unhealthy_edge_interval,
        config.healthy_edge_interval,
        config.no_traffic_interval,
        config.no_traffic_healthy_interval,
    )
    return min(one for one in given if one is not None)
