"""Random choice in proportion to the weights."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate
from random import Random as Source

from xproxy.stream.exchange import Request
from xproxy.upstream.endpoint import Endpoint


class Random:
    """Independent draws: no state to share, at the price of a less even spread."""

    __slots__ = ("_bounds", "_endpoints", "_random")

    def __init__(self, endpoints: Sequence[Endpoint], random: Source) -> None:
        self._endpoints = tuple(endpoints)
        self._random = random
        self._bounds = list(accumulate(endpoint.weight for endpoint in endpoints))

    def pick(self, request: Request | None = None) -> Endpoint:
        """See LoadBalancer; the request does not matter."""
        return self._endpoints[bisect(self._bounds, self._random.random() * self._bounds[-1])]
