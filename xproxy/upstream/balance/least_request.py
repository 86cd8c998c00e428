"""Least request: of two drawn at random, the less busy (idea: Mitzenmacher, "The power of two choices")."""

from __future__ import annotations

from collections.abc import Container, Sequence
from random import Random

from xproxy.stream.exchange import Request
from xproxy.upstream.balance.api import Picker
from xproxy.upstream.balance.draws import draw_another
from xproxy.upstream.balance.edf import EarliestDeadlineFirst, uneven
from xproxy.upstream.endpoint import Endpoint

_CHOICES = 2


class LeastRequest:
    """Two choices with replacement; with unequal weights, EDF with weight ÷ (active + 1) (semantics of Envoy)."""

    __slots__ = ("_random",)

    def __init__(self, random: Random) -> None:
        self._random = random

    def picker(
        self, endpoints: Sequence[Endpoint], previous: Picker | None = None
    ) -> EarliestDeadlineFirst | LessBusy:
        """See LoadBalancer."""
        if uneven(endpoints):
            start = self._random.randrange(len(endpoints))
            return EarliestDeadlineFirst(endpoints, start, _weight, previous)
        return LessBusy(endpoints, self._random)


class LessBusy:
    """Draws two and picks the less busy."""

    __slots__ = ("_endpoints", "_random")

    def __init__(self, endpoints: Sequence[Endpoint], random: Random) -> None:
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
        for _ in range(_CHOICES - 1):
            other = endpoints[int(draw() * count)]
            if other.active < best.active:
                best = other
        return best


def _weight(endpoint: Endpoint) -> float:
    return endpoint.weight / (endpoint.active + 1)
