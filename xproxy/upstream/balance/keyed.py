"""What balancers that go by a request's hash have in common: who avoids, and who has no hash."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from random import Random
from typing import Final

from xproxy.stream.exchange import Request
from xproxy.upstream.balance.random import Drawn
from xproxy.upstream.endpoint import Endpoint

_TRIES: Final = 8
"""Other places that are looked at for a request that avoids something, before one is drawn at random."""
_NEXT: Final = 0x9E3779B97F4A7C15
_MASK: Final = (1 << 64) - 1


class Keyed:
    """Picks by hash; without one at random, by weight."""

    __slots__ = ("_drawn", "_find")

    def __init__(
        self, endpoints: Sequence[Endpoint], find: Callable[[int], Endpoint], random: Random
    ) -> None:
        """``find`` says whose a hash (64 bits) is."""
        self._find = find
        self._drawn = Drawn(endpoints, random)

    def pick(self, request: Request, avoid: Container[object]) -> Endpoint:
        """See Picker. Requests of one key that avoid the same go to the same one all the same, nearly always."""
        key = request.record.hash
        if key is None:
            return self._drawn.pick(request, avoid)
        endpoint = self._find(key)
        if not avoid:
            return endpoint
        for _ in range(_TRIES):
            if endpoint not in avoid:
                return endpoint
            key = (key ^ key >> 29) * _NEXT + _NEXT & _MASK
            endpoint = self._find(key)
        return self._drawn.pick(request, avoid)
