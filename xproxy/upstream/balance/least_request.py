"""Least request: of two drawn at random, the less busy (idea: Mitzenmacher, "The power of two choices")."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from xproxy.stream.exchange import Request
from xproxy.upstream.balance.edf import EarliestDeadlineFirst
from xproxy.upstream.endpoint import Endpoint

_CHOICES = 2


class LeastRequest:
    """Two choices with replacement; with unequal weights, EDF with weight ÷ (active + 1) (semantics of Envoy)."""

    __slots__ = ("_edf", "_endpoints", "_random")

    def __init__(self, endpoints: Sequence[Endpoint], random: Random) -> None:
        self._endpoints = tuple(endpoints)
        self._random = random
        weighted = len({endpoint.weight for endpoint in endpoints}) > 1
        start = random.randrange(len(endpoints))
        self._edf = (
            EarliestDeadlineFirst(self._endpoints, start, lambda e: e.weight / (e.active + 1))
            if weighted
            else None
        )

    def pick(self, request: Request | None = None) -> Endpoint:
        """See LoadBalancer; the request does not matter."""
        if self._edf is not None:
            return self._edf.pick()
        endpoints = self._endpoints
        draw = self._random.random
        count = len(endpoints)
        best = endpoints[int(draw() * count)]
        for _ in range(_CHOICES - 1):
            other = endpoints[int(draw() * count)]
            if other.active < best.active:
                best = other
        return best
