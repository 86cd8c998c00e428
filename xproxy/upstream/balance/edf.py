"""Earliest deadline first: weighted round robin without bursts (idea: envoy: upstream/edf_scheduler.h)."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Container, Sequence

from xproxy.stream.exchange import Request
from xproxy.upstream.balance.api import Picker
from xproxy.upstream.balance.turns import MOST_ENDPOINTS, Turns, pack_turns, unpack_turns
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.membership import named


class EarliestDeadlineFirst:
    """Each endpoint comes again after ``1 / weight``; of two that are due, the one that has waited longer."""

    __slots__ = ("_heap", "_sequence", "_weight")

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        start: int,
        weight: Callable[[Endpoint], float],
        previous: Picker | None = None,
    ) -> None:
        """``start``: who is first among equals, where there is no ``previous`` one of this kind to go on from."""
        self._weight = weight
        self._sequence = len(endpoints)
        self._heap: list[tuple[float, int, Endpoint]]
        if isinstance(previous, EarliestDeadlineFirst):
            self._sequence = previous._sequence
            self._heap = self._follow(endpoints, previous._heap)
        else:
            rotated = [*endpoints[start:], *endpoints[:start]]
            self._heap = [(1 / weight(e), i, e) for i, e in enumerate(rotated)]
        heapq.heapify(self._heap)

    def _follow(
        self, endpoints: Sequence[Endpoint], before: list[tuple[float, int, Endpoint]]
    ) -> list[tuple[float, int, Endpoint]]:
        # Who was there keeps its turn, but waits no longer than its weight says now; who is new has had its last now.
        now = before[0][0]
        turns = {endpoint: (due, number) for due, number, endpoint in before}
        heap = []
        for endpoint in endpoints:
            latest = now + 1 / self._weight(endpoint)
            turn = turns.get(endpoint)
            if turn is None:
                self._sequence += 1
                heap.append((latest, self._sequence, endpoint))
            else:
                heap.append((min(turn[0], latest), turn[1], endpoint))
        return heap

    def pick(self, request: Request | None = None, avoid: Container[object] = ()) -> Endpoint:
        """See Picker: the endpoint that is due. Those it avoids stay due."""
        heap = self._heap
        passed: list[tuple[float, int, Endpoint]] = []
        if avoid:
            while heap and heap[0][2] in avoid:
                passed.append(heapq.heappop(heap))
            if not heap:
                heap.extend(passed)
                passed.clear()
        due, _, endpoint = heap[0]
        self._sequence += 1
        heapq.heapreplace(heap, (due + 1 / self._weight(endpoint), self._sequence, endpoint))
        for entry in passed:
            heapq.heappush(heap, entry)
        return endpoint

    def carry(self) -> bytes:
        """See MovablePicker."""
        heap = sorted(self._heap, key=_place)[:MOST_ENDPOINTS]
        names = [name for name, _ in named([endpoint for _, _, endpoint in heap])]
        return pack_turns(Turns(names, [due - heap[0][0] for due, _, _ in heap]))

    def resume(self, data: bytes) -> None:
        """See MovablePicker: who is not told of has had its last turn now."""
        turns = unpack_turns(data)
        told = dict(zip(turns.names, enumerate(turns.due), strict=False))
        heap = []
        self._sequence = len(told)
        for name, endpoint in named(
            [endpoint for _, _, endpoint in sorted(self._heap, key=_place)]
        ):
            latest = 1 / self._weight(endpoint)
            number, due = told.get(name, (self._sequence, latest))
            self._sequence += name not in told
            heap.append((min(due, latest), number, endpoint))
        heapq.heapify(heap)
        self._heap = heap


def _place(entry: tuple[float, int, Endpoint]) -> tuple[float, int]:
    return entry[:2]


def uneven(endpoints: Sequence[Endpoint]) -> bool:
    """Whether weights differ."""
    weight = endpoints[0].weight
    return any(endpoint.weight != weight for endpoint in endpoints)
