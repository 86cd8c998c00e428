"""Configuration of circuit breakers: what is too much for a cluster.

Names, defaults and meanings are Envoy's (``envoy.config.cluster.v3.CircuitBreakers``).
"""

from __future__ import annotations

from typing import Final, Literal

import attrs
from attrs import field
from attrs.validators import ge, gt, le, max_len, optional

MOST_THRESHOLDS: Final = 16
"""Entries of ``thresholds`` in one cluster; the first one for each priority counts."""


@attrs.frozen(kw_only=True)
class RetryBudgetConfig:
    """Retries in flight, as a share of the requests in flight: many fail, few are tried again."""

    budget_percent: float = field(default=20.0, validator=[gt(0), le(100)])
    """Percent of the requests in flight, those that wait for a connection and retries included."""
    min_retry_concurrency: int = field(default=3, validator=ge(0))
    """So many there may be in any case."""


@attrs.frozen(kw_only=True)
class ThresholdsConfig:
    """Bounds of one priority."""

    max_connections: int = field(default=1024, validator=ge(1))
    """Connections to all endpoints together, of all priorities: they share them."""
    max_connections_per_endpoint: int | None = field(default=None, validator=optional(ge(1)))
    """Connections to each endpoint. Not given: no bound of its own."""
    max_connection_pools: int | None = field(default=None, validator=optional(ge(1)))
    """Pools of connections: one for each endpoint and protocol in use. Not given: no bound."""
    max_pending_requests: int = field(default=1024, validator=ge(0))
    """Requests that wait for a connection."""
    max_requests: int = field(default=1024, validator=ge(1))
    """Requests in flight."""
    connection_share: int = field(default=50, validator=[ge(1), le(100)])
    """Percent of `max_requests`, `max_pending_requests` and `max_retries` that one client's connection may have. 100:
    all."""
    max_retries: int = field(default=3, validator=ge(0))
    """Retries in flight."""
    retry_budget: RetryBudgetConfig | None = None
    """In place of ``max_retries``. ``true`` stands for the defaults."""
    track_remaining: bool = False
    """Show how much of each bound is left, as gauges (``remaining``)."""


@attrs.frozen(kw_only=True)
class PriorityThresholdsConfig(ThresholdsConfig):
    """Bounds of the requests of one priority."""

    priority: Literal["default", "high"] = "default"
    """Which requests: ``high`` are those whose route or filter says so."""


@attrs.frozen(kw_only=True)
class CircuitBreakersConfig(ThresholdsConfig):
    """What is too much for a cluster; beyond it requests fail at once with the protocol's overload answer.

    Keys beside ``thresholds`` are bounds of the default priority, unless an entry there has others.
    """

    thresholds: tuple[PriorityThresholdsConfig, ...] = field(
        default=(), validator=max_len(MOST_THRESHOLDS)
    )
    """Bounds by priority; the first entry of a priority wins. A priority without one has the defaults."""

    def of(self, priority: Literal["default", "high"]) -> ThresholdsConfig:
        """Return the bounds of a priority."""
        for entry in self.thresholds:
            if entry.priority == priority:
                return entry
        return self if priority == "default" else _UNSAID


_UNSAID: Final = ThresholdsConfig()
