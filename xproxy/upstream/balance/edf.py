"""Earliest deadline first: weighted round robin without bursts (idea: envoy: upstream/edf_scheduler.h)."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from xproxy.upstream.endpoint import Endpoint


class EarliestDeadlineFirst:
    """Each endpoint comes again after ``1 / weight``; of two that are due, the one that has waited longer."""

    __slots__ = ("_heap", "_sequence", "_weight")

    def __init__(
        self, endpoints: Sequence[Endpoint], start: int, weight: Callable[[Endpoint], float]
    ) -> None:
        self._weight = weight
        self._sequence = len(endpoints)
        rotated = [*endpoints[start:], *endpoints[:start]]
        self._heap = [(1 / weight(e), i, e) for i, e in enumerate(rotated)]
        heapq.heapify(self._heap)

    def pick(self) -> Endpoint:
        """Return the endpoint that is due."""
        due, _, endpoint = self._heap[0]
        self._sequence += 1
        heapq.heapreplace(self._heap, (due + 1 / self._weight(endpoint), self._sequence, endpoint))
        return endpoint
