"""Round robin, weighted where weights differ."""

from __future__ import annotations

from collections.abc import Container, Sequence
from random import Random
from typing import Final

import attrs

from xproxy.stream.exchange import Request
from xproxy.upstream.balance.api import Picker
from xproxy.upstream.balance.edf import EarliestDeadlineFirst, uneven
from xproxy.upstream.balance.slow_start import SlowStart
from xproxy.upstream.balance.turns import Turns, pack_turns, unpack_turns
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.membership import named

_TOLD: Final = 16
"""Endpoints that another process is told to be next: the first of them that it has is."""


@attrs.frozen(kw_only=True)
class RoundRobinOptions:
    """In turn, as often as weights say."""

    slow_start: SlowStart | None = None
    """Endpoints that come, or come back, begin with little."""


class RoundRobin:
    """In turn, from a random start, so that many proxies do not all begin with the same endpoint."""

    __slots__ = ("_random", "slow_start")

    options = RoundRobinOptions

    def __init__(self, random: Random, options: RoundRobinOptions = RoundRobinOptions()) -> None:
        self._random = random
        self.slow_start = options.slow_start

    def picker(
        self, endpoints: Sequence[Endpoint], previous: Picker | None = None
    ) -> EarliestDeadlineFirst | InTurn:
        """See LoadBalancer."""
        start = self._random.randrange(len(endpoints))
        if self.slow_start is not None and (self.slow_start.any_of(endpoints) or uneven(endpoints)):
            weight = self.slow_start.weighing(_weight)
            return EarliestDeadlineFirst(endpoints, start, weight, previous)
        if uneven(endpoints):
            return EarliestDeadlineFirst(endpoints, start, _weight, previous)
        if isinstance(previous, InTurn):
            start = previous.next_of(endpoints)
        return InTurn(endpoints, start)


class InTurn:
    """Picks one after the other."""

    __slots__ = ("_endpoints", "_next")

    def __init__(self, endpoints: Sequence[Endpoint], start: int) -> None:
        self._endpoints = tuple(endpoints)
        self._next = start

    def pick(self, request: Request | None = None, avoid: Container[object] = ()) -> Endpoint:
        """See Picker. Each that it avoids loses its turn."""
        endpoints = self._endpoints
        index = self._next
        self._next = index + 1 if index + 1 < len(endpoints) else 0
        endpoint = endpoints[index]
        if avoid:
            for _ in endpoints:
                if endpoint not in avoid:
                    break
                endpoint = self.pick()
        return endpoint

    def next_of(self, endpoints: Sequence[Endpoint]) -> int:
        """Return which of other endpoints is the next: the first of ours in turn that is among them, else any."""
        among = {endpoint: index for index, endpoint in enumerate(endpoints)}
        for endpoint in (*self._endpoints[self._next :], *self._endpoints[: self._next]):
            index = among.get(endpoint)
            if index is not None:
                return index
        return 0

    def carry(self) -> bytes:
        """See MovablePicker."""
        names = [name for name, _ in named(self._endpoints)]
        return pack_turns(Turns([*names[self._next :], *names[: self._next]][:_TOLD]))

    def resume(self, data: bytes) -> None:
        """See MovablePicker."""
        turns = unpack_turns(data)
        ours = {name: index for index, (name, _) in enumerate(named(self._endpoints))}
        self._next = next((ours[name] for name in turns.names if name in ours), self._next)


def _weight(endpoint: Endpoint) -> float:
    return endpoint.weight
