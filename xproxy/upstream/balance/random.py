"""Random choice in proportion to the weights."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Container, Sequence
from itertools import accumulate
from random import Random as Source

from xproxy.stream.exchange import Request
from xproxy.upstream.balance.api import Picker
from xproxy.upstream.balance.draws import draw_another
from xproxy.upstream.endpoint import Endpoint


class Random:
    """Independent draws: no state to share, at the price of a less even spread."""

    __slots__ = ("_random",)

    def __init__(self, random: Source) -> None:
        self._random = random

    def picker(self, endpoints: Sequence[Endpoint], previous: Picker | None = None) -> Drawn:
        """See LoadBalancer."""
        return Drawn(endpoints, self._random)


class Drawn:
    """Draws each endpoint as often as its weight says."""

    __slots__ = ("_alike", "_bounds", "_endpoints", "_random")

    def __init__(self, endpoints: Sequence[Endpoint], random: Source) -> None:
        self._endpoints = tuple(endpoints)
        self._random = random
        # Numbers of one kind: to compare an int with a float costs a search among many as much as all the rest.
        self._bounds = list(accumulate(float(endpoint.weight) for endpoint in endpoints))
        self._alike = len({endpoint.weight for endpoint in endpoints}) == 1

    def pick(self, request: Request | None = None, avoid: Container[object] = ()) -> Endpoint:
        """See Picker."""
        if avoid:
            return draw_another(self.pick, self._endpoints, avoid, self._random)
        if self._alike:  # as mostly: there is nothing to search
            return self._endpoints[int(self._random.random() * len(self._endpoints))]
        return self._endpoints[bisect(self._bounds, self._random.random() * self._bounds[-1])]
