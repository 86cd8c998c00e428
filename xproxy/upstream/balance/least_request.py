"""Least request: of two drawn at random, the less busy (idea: Mitzenmacher, "The power of two choices")."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from functools import partial
from random import Random

import attrs
from attrs import field
from attrs.validators import ge, le

from xproxy.stream.exchange import Request
from xproxy.upstream.balance.api import Picker
from xproxy.upstream.balance.draws import draw_another
from xproxy.upstream.balance.edf import EarliestDeadlineFirst, uneven
from xproxy.upstream.balance.slow_start import SlowStart
from xproxy.upstream.endpoint import Endpoint


@attrs.frozen(kw_only=True)
class LeastRequestOptions:
    """The less busy of some drawn at random; with unequal weights in turn, by weight ÷ (requests in flight + 1)."""

    choice_count: int = field(default=2, validator=[ge(2), le(100)])
    """So many are drawn, where all weights are equal."""
    active_request_bias: float = field(default=1.0, validator=[ge(0), le(100)])
    """With unequal weights: the power of requests in flight. 0: by weights only."""
    slow_start: SlowStart | None = None
    """Endpoints that come, or come back, begin with little."""


class LeastRequest:
    """Two choices with replacement; with unequal weights, EDF with weight ÷ (active + 1) ^ bias (as Envoy)."""

    __slots__ = ("_bias", "_choices", "_random", "slow_start")

    options = LeastRequestOptions

    def __init__(
        self, random: Random, options: LeastRequestOptions = LeastRequestOptions()
    ) -> None:
        self._random = random
        self._choices = options.choice_count
        self._bias = options.active_request_bias
        self.slow_start = options.slow_start

    def picker(
        self, endpoints: Sequence[Endpoint], previous: Picker | None = None
    ) -> EarliestDeadlineFirst | LessBusy:
        """See LoadBalancer."""
        slow = self.slow_start is not None and self.slow_start.any_of(endpoints)
        if slow or uneven(endpoints):
            start = self._random.randrange(len(endpoints))
            weight: Callable[[Endpoint], float] = _weight
            if self._bias != 1:
                weight = partial(_biased, self._bias)
            if self.slow_start is not None:
                weight = self.slow_start.weighing(weight)
            return EarliestDeadlineFirst(endpoints, start, weight, previous)
        return LessBusy(endpoints, self._random, self._choices)


class LessBusy:
    """Draws two, or more, and picks the least busy."""

    __slots__ = ("_endpoints", "_more", "_random")

    def __init__(self, endpoints: Sequence[Endpoint], random: Random, choices: int = 2) -> None:
        self._more = range(choices - 1)
        self._endpoints = tuple(endpoints)
        self._random = random

    def pick(self, request: Request | None = None, avoid: Container[object] = ()) -> Endpoint:
        """See Picker."""
        if avoid:
            return draw_another(self.pick, self._endpoints, avoid, self._random)
        endpoints = self._endpoints
        draw = self._random.random
        count = len(endpoints)
        best = endpoints[int(draw() * count)]
        for _ in self._more:
            other = endpoints[int(draw() * count)]
            if other.active < best.active:
                best = other
        return best


def _biased(bias: float, endpoint: Endpoint) -> float:
    # Never 0, however many there are.
    return max(endpoint.weight / math.pow(endpoint.active + 1, bias), 1e-9)


def _weight(endpoint: Endpoint) -> float:
    return endpoint.weight / (endpoint.active + 1)
