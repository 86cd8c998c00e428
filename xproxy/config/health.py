"""Configuration of what decides whether an endpoint is fit: what it answers to requests, and to health checks.

Names, defaults and meanings are Envoy's (``envoy.config.cluster.v3.OutlierDetection``,
``envoy.config.core.v3.HealthCheck``).
"""

from __future__ import annotations

from typing import Any

import attrs
from attrs import field
from attrs.validators import ge, gt, le, optional

from xproxy.model.limits import Duration


def _percent(value: int) -> Any:  # Any: what attrs.field returns is the field's own type to mypy
    return field(default=value, validator=[ge(0), le(100)])


def _count(value: int, least: int = 1) -> Any:  # Any: as above
    return field(default=value, validator=ge(least))


@attrs.frozen(kw_only=True)
class OutlierDetectionConfig:
    """Ejects endpoints for what they answer. Codes are the web's; of other protocols their neutral status counts:
    ``unavailable`` as 503, ``deadline-exceeded`` as 504, other faults of a server as 500.
    """

    consecutive_5xx: int = _count(5)
    """So many 5xx in a row. Local failures count as well, unless they are split: timeouts as 504, connect failures as
    503, any other as 500."""
    enforcing_consecutive_5xx: int = _percent(100)
    """Percent of such detections that eject; the others are only counted. 0: none."""
    consecutive_gateway_failure: int = _count(5)
    """So many 502, 503 or 504 in a row."""
    enforcing_consecutive_gateway_failure: int = _percent(0)
    """Percent, likewise."""
    consecutive_local_origin_failure: int = _count(5)
    """So many connect failures, resets and timeouts in a row, where they are split."""
    enforcing_consecutive_local_origin_failure: int = _percent(100)
    """Percent, likewise."""
    interval: Duration = field(default=Duration(10.0), validator=gt(Duration(0)))
    """Between two looks at success rates, and at who may come back."""
    base_ejection_time: Duration = field(default=Duration(30.0), validator=gt(Duration(0)))
    """An endpoint is ejected for so long, times how often it was of late."""
    max_ejection_time: Duration | None = field(default=None, validator=optional(gt(Duration(0))))
    """At most so long. Not given: 5 minutes, or ``base_ejection_time`` if that is more."""
    max_ejection_time_jitter: Duration = field(default=Duration(0), validator=ge(Duration(0)))
    """Up to so much is added, drawn by lot."""
    max_ejection_percent: int = _percent(10)
    """Of all endpoints of the cluster, how many may be ejected at a time. With 10 a cluster of fewer than 10
    endpoints ejects none."""
    always_eject_one_host: bool = False
    """One may be ejected whatever ``max_ejection_percent`` says."""
    success_rate_minimum_hosts: int = _count(5, 0)
    """Success rates are compared if so many endpoints had enough requests."""
    success_rate_request_volume: int = _count(100, 0)
    """So many in an interval are enough."""
    success_rate_stdev_factor: int = _count(1900, 0)
    """Thousandths of the standard deviation that a success rate may be below the mean."""
    enforcing_success_rate: int = _percent(100)
    """Percent, likewise."""
    enforcing_local_origin_success_rate: int = _percent(100)
    """Percent, likewise, for local failures where they are split."""
    failure_percentage_threshold: int = _percent(85)
    """So many percent of failures in an interval."""
    failure_percentage_minimum_hosts: int = _count(5, 0)
    """If so many endpoints had enough requests."""
    failure_percentage_request_volume: int = _count(50, 0)
    """So many in an interval are enough."""
    enforcing_failure_percentage: int = _percent(0)
    """Percent, likewise."""
    enforcing_failure_percentage_local_origin: int = _percent(0)
    """Percent, likewise, for local failures where they are split."""
    split_external_local_origin_errors: bool = False
    """Count what an endpoint answers, and that it does not answer, apart."""
    successful_active_health_check_uneject_host: bool = True
    """A health check that passes ends an ejection at once."""

    @property
    def longest_ejection(self) -> float:
        """Seconds, without jitter."""
        return self.max_ejection_time or max(300.0, self.base_ejection_time)


@attrs.frozen(kw_only=True)
class CheckConfig:
    """A kind of health check by name, with its own fields beside it. Written ``name`` or ``{name: …, field: …}``."""

    name: str
    options: Any = attrs.field(factory=dict)  # Any: checked by the check's own class
    """The check's own fields, as an instance of its class once loaded."""


@attrs.frozen(kw_only=True)
class HealthCheckConfig:
    """Asks each endpoint, again and again, whether it is fit. Until the first answer it is not."""

    check: CheckConfig
    """What is asked."""
    timeout: Duration = field(validator=gt(Duration(0)))
    """Until the answer; connecting included."""
    interval: Duration = field(validator=gt(Duration(0)))
    """From one check to the next."""
    unhealthy_threshold: int = field(validator=ge(1))
    """So many failures in a row make an endpoint unhealthy. What is answered wrong does so at once."""
    healthy_threshold: int = field(validator=ge(1))
    """So many passed in a row make it healthy again. The first check of all decides alone."""
    reuse_connection: bool = True
    """Check over the connection of the check before."""
    unhealthy_interval: Duration | None = field(default=None, validator=optional(gt(Duration(0))))
    """After a failed check. Default: ``interval``."""
    unhealthy_edge_interval: Duration | None = field(
        default=None, validator=optional(gt(Duration(0)))
    )
    """After a failed one that did not yet make the endpoint unhealthy. Default: ``unhealthy_interval``."""
    healthy_edge_interval: Duration | None = field(
        default=None, validator=optional(gt(Duration(0)))
    )
    """After a passed one that did not yet make the endpoint healthy. Default: ``interval``."""
    no_traffic_interval: Duration = field(default=Duration(60.0), validator=gt(Duration(0)))
    """Instead of all of them, as long as the cluster never had a request."""
    no_traffic_healthy_interval: Duration | None = field(
        default=None, validator=optional(gt(Duration(0)))
    )
    """The same after a passed check. Default: ``no_traffic_interval``."""
    initial_jitter: Duration = field(default=Duration(0), validator=ge(Duration(0)))
    """The first check comes after up to so long, drawn by lot."""
    interval_jitter: Duration = field(default=Duration(0), validator=ge(Duration(0)))
    """Up to so much is added to each interval, likewise."""
    interval_jitter_percent: int = _percent(0)
    """Up to so many percent of it, likewise."""
    always_log_health_check_failures: bool = False
    """Log every failure, and not only the changes."""
