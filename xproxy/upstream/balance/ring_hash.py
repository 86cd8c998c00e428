"""Ring hash: requests of one key go to one endpoint, as long as that is there."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

import attrs
from attrs import field
from attrs.validators import ge, le

from xproxy.upstream.balance.api import Picker
from xproxy.upstream.balance.keyed import Keyed
from xproxy.upstream.balance.ring import Ring, entries
from xproxy.upstream.endpoint import Endpoint

LARGEST_RING: Final = 8 * 1024 * 1024
"""Points of all endpoints together."""
_STEP: Final = 512
"""Points that one pick adds to a ring that is not whole yet."""


@attrs.frozen(kw_only=True)
class RingHashOptions:
    """By the hash of the route's ``hash_policy``, on a ring; a request without one goes anywhere, by weight."""

    minimum_ring_size: int = field(default=1024, validator=[ge(1), le(LARGEST_RING)])
    """Points of all endpoints together, at least: more spread keys more evenly."""
    maximum_ring_size: int = field(default=LARGEST_RING, validator=[ge(1), le(LARGEST_RING)])
    """At most, however much weights differ; 12 bytes each."""


class RingHash:
    """Consistent hashing (semantics of Envoy)."""

    __slots__ = ("_options", "_random")

    options = RingHashOptions

    def __init__(self, random: Random, options: RingHashOptions = RingHashOptions()) -> None:
        self._random = random
        self._options = options

    def picker(self, endpoints: Sequence[Endpoint], previous: Picker | None = None) -> Keyed:
        """See LoadBalancer."""
        weights = [endpoint.weight for endpoint in endpoints]
        largest = self._options.maximum_ring_size
        counts = entries(weights, min(self._options.minimum_ring_size, largest), largest)
        ring = Ring(endpoints, counts)
        if not ring.growing:
            return Keyed(endpoints, ring.at, self._random)

        def find(key: int) -> Endpoint:
            if ring.growing:
                ring.grow(_STEP)
            return ring.at(key)

        return Keyed(endpoints, find, self._random)
