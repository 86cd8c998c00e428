"""Slow start: who comes, or comes back, has little of its weight at first, and all of it after a while (Envoy's)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import attrs
import trio
from attrs import field
from attrs.validators import ge, gt, le

from xproxy.model.limits import Duration
from xproxy.upstream.endpoint import Endpoint


@attrs.frozen(kw_only=True)
class SlowStart:
    """Weight × max(``min_weight_percent``, (time ÷ ``window``) ^ (1 ÷ ``aggression``))."""

    window: Duration = field(validator=gt(Duration(0)))
    """So long after it became available an endpoint has its whole weight."""
    aggression: float = field(default=1.0, validator=[gt(0), le(100)])
    """1: it grows evenly; more: faster at first."""
    min_weight_percent: float = field(default=10.0, validator=[ge(0.1), le(100)])
    """What it begins with."""

    def factor(self, age: float) -> float:
        """Return what is to be had of the weight ``age`` seconds after it became available; at most 1."""
        if age >= self.window:
            return 1.0
        part = math.pow(max(age, 0.0) / self.window, 1 / self.aggression)
        return max(self.min_weight_percent / 100, part)

    def any_of(self, endpoints: Sequence[Endpoint]) -> bool:
        """Whether one of them has not its whole weight yet."""
        begun = trio.current_time() - self.window
        return any(one.since > begun for one in endpoints)

    def weighing(self, weight: Callable[[Endpoint], float]) -> Callable[[Endpoint], float]:
        """Return ``weight`` as it is now for each endpoint."""

        def now(endpoint: Endpoint) -> float:
            return weight(endpoint) * self.factor(trio.current_time() - endpoint.since)

        return now
