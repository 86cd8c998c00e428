"""How a cluster's requests are spread over its endpoints, beside what its balancer does: levels and panic."""

from __future__ import annotations

from typing import Any, Final

import attrs
from attrs import field
from attrs.validators import ge, le


@attrs.frozen(kw_only=True)
class BalancingConfig:
    """Which endpoints a balancer may choose from. Priorities, health and degradation are the endpoints' own."""

    overprovisioning_factor: int = field(default=140, validator=[ge(100), le(10_000)])
    """Percent: a priority takes all requests while this many times its healthy share is a whole; at 140 until fewer
    than 72 % of its endpoints are healthy. What it cannot take goes to the next one."""
    panic_threshold: int = field(default=50, validator=[ge(0), le(100)])
    """Percent: where fewer endpoints of a priority are fit, and all priorities together cannot take all requests, its
    share goes to all of them, fit or not. 0: never; where nobody is fit, requests are refused."""
    fail_traffic_on_panic: bool = False
    """Refuse requests in that case, in place of it."""


DEFAULT_BALANCING: Final = BalancingConfig()
"""What a cluster has that says nothing of it."""


@attrs.frozen(kw_only=True)
class BalancerConfig:
    """A load balancer with options of its own, beside its name. Written ``{name: …, option: …}``."""

    name: str
    options: Any  # Any: an instance of the balancer's own class of options
    """Every option of the balancer, given or not, compared by value."""


def balancer_name(balancer: str | BalancerConfig) -> str:
    """Return a balancer's name, however it is written."""
    return balancer if isinstance(balancer, str) else balancer.name
