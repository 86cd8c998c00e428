"""Peak EWMA: of two drawn at random, the one that answers sooner, as far as is known, with what it has in flight.

An endpoint's time to answer is a moving average that goes up at once and comes down slowly, so that one that stalls
is left at the first sign, and tried again after a while.
(idea: Finagle's and linkerd2-proxy's balancers)
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Container, Sequence
from itertools import accumulate
from random import Random
from weakref import WeakKeyDictionary

import attrs
import trio
from attrs import field
from attrs.validators import gt

from xproxy.model.limits import Duration
from xproxy.stream.exchange import Request
from xproxy.stream.record import Attempted
from xproxy.upstream.balance.api import Picker
from xproxy.upstream.balance.draws import draw_another
from xproxy.upstream.endpoint import Endpoint


@attrs.frozen(kw_only=True)
class PeakEwmaOptions:
    """The sooner of two drawn at random, by the time that endpoints took of late, and what they have in flight."""

    decay: Duration = field(default=Duration(10.0), validator=gt(Duration(0)))
    """In this time what is known fades to a third."""
    initial_rtt: Duration = field(default=Duration(0.03), validator=gt(Duration(0)))
    """What an endpoint is taken to need of which nothing is known."""


class Cost:
    """What one endpoint takes to answer, in seconds."""

    __slots__ = ("_at", "_rtt")

    def __init__(self, rtt: float, now: float) -> None:
        self._rtt = rtt
        self._at = now

    def now(self, now: float, decay: float) -> float:
        """Return it as it has faded till ``now``; never 0."""
        return (
            self._rtt * math.exp((self._at - now) / decay) + 1e-6 if now > self._at else self._rtt
        )

    def learn(self, rtt: float, now: float, decay: float, *, answered: bool) -> None:
        """Take note of an attempt of ``rtt`` seconds. One that was not answered never makes it better."""
        known = self.now(now, decay)
        if rtt > known:
            self._rtt = rtt
        elif answered:
            part = math.exp((self._at - now) / decay) if now > self._at else 1.0
            self._rtt = self._rtt * part + rtt * (1 - part)
        else:
            return
        self._at = max(now, self._at)


class PeakEwma:
    """Knows what each endpoint takes, as long as it is there."""

    __slots__ = ("_costs", "_decay", "_initial", "_random")

    options = PeakEwmaOptions

    def __init__(self, random: Random, options: PeakEwmaOptions = PeakEwmaOptions()) -> None:
        self._random = random
        self._decay = options.decay
        self._initial = options.initial_rtt
        self._costs: WeakKeyDictionary[object, Cost] = WeakKeyDictionary()

    def picker(self, endpoints: Sequence[Endpoint], previous: Picker | None = None) -> Sooner:
        """See LoadBalancer."""
        return Sooner(endpoints, self, self._random)

    def ended(self, attempt: Attempted) -> None:
        """See ObservingBalancer."""
        how, now = attempt.how, attempt.ended
        if how is None or now is None:
            return
        cost = self._costs.get(attempt.endpoint)
        if cost is None:
            cost = self._costs[attempt.endpoint] = Cost(self._initial, attempt.began)
        first = attempt.answered
        answered = first is not None
        cost.learn(
            (now if first is None else first) - attempt.began, now, self._decay, answered=answered
        )

    def rtt(self, endpoint: Endpoint) -> float:
        """Return what it takes to answer, as far as is known now."""
        cost = self._costs.get(endpoint)
        return self._initial if cost is None else cost.now(trio.current_time(), self._decay)


class Sooner:
    """Draws two, by weight, and picks the one that costs less."""

    __slots__ = ("_bounds", "_endpoints", "_mean", "_of", "_random")

    def __init__(self, endpoints: Sequence[Endpoint], of: PeakEwma, random: Random) -> None:
        self._endpoints = tuple(endpoints)
        self._of = of
        self._random = random
        # Numbers of one kind: to compare an int with a float costs a search among many as much as all the rest.
        self._bounds = list(accumulate(float(endpoint.weight) for endpoint in endpoints))
        self._mean = self._bounds[-1] / len(endpoints)

    def pick(self, request: Request | None = None, avoid: Container[object] = ()) -> Endpoint:
        """See Picker."""
        if avoid:
            return draw_another(self.pick, self._endpoints, avoid, self._random)
        endpoints = self._endpoints
        draw, bounds = self._random.random, self._bounds
        one = endpoints[bisect(bounds, draw() * bounds[-1])]
        other = endpoints[bisect(bounds, draw() * bounds[-1])]
        return one if one is other or self._load(one) <= self._load(other) else other

    def _load(self, endpoint: Endpoint) -> float:
        # Of two that are idle and equally quick, weights have had their say when these were drawn.
        return self._of.rtt(endpoint) * (1 + endpoint.active * self._mean / endpoint.weight)
