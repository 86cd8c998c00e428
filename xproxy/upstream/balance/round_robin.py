"""Round robin, weighted where weights differ."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from xproxy.stream.exchange import Request
from xproxy.upstream.balance.edf import EarliestDeadlineFirst
from xproxy.upstream.endpoint import Endpoint


class RoundRobin:
    """In turn, from a random start, so that many proxies do not all begin with the same endpoint."""

    __slots__ = ("_edf", "_endpoints", "_next")

    def __init__(self, endpoints: Sequence[Endpoint], random: Random) -> None:
        self._endpoints = tuple(endpoints)
        self._next = random.randrange(len(endpoints))
        weighted = len({endpoint.weight for endpoint in endpoints}) > 1
        self._edf = (
            EarliestDeadlineFirst(self._endpoints, self._next, lambda e: e.weight)
            if weighted
            else None
        )

    def pick(self, request: Request | None = None) -> Endpoint:
        """See LoadBalancer; the request does not matter."""
        if self._edf is not None:
            return self._edf.pick()
        endpoints = self._endpoints
        index = self._next
        self._next = index + 1 if index + 1 < len(endpoints) else 0
        return endpoints[index]
