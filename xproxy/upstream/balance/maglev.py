"""Maglev: requests of one key go to one endpoint; shares are nearly equal, and a look-up is one step.

A table of prime size, in which each endpoint has places in an order of its own, and takes the next free one in turn.
It is filled little by little: a large one takes seconds.
(Eisenbud et al., "Maglev: A fast and reliable software network load balancer", §3.4; idea: envoy: maglev_lb.cc)
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterator, Sequence
from random import Random
from typing import Final

import attrs
from attrs import field
from attrs.validators import ge, le
from xxhash import xxh64_intdigest

from xproxy.upstream.balance.api import Picker
from xproxy.upstream.balance.keyed import Keyed
from xproxy.upstream.balance.ring import Ring
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.membership import named

TABLE_SIZE: Final = 65_537
LARGEST_TABLE: Final = 5_000_011
_STEP: Final = 1024
"""Places that are looked at in one go: a pick of a table that is not full does so once."""
_AT_ONCE: Final = 16
"""Steps at the start: a table for few endpoints is a good part full then."""


def _prime(options: object, attribute: object, value: int) -> None:
    if value < 2 or any(value % n == 0 for n in range(2, int(value**0.5) + 1)):
        raise ValueError(f"must be a prime: {value}")


@attrs.frozen(kw_only=True)
class MaglevOptions:
    """By the hash of the route's ``hash_policy``, in a table; a request without one goes anywhere, by weight."""

    table_size: int = field(default=TABLE_SIZE, validator=[ge(2), le(LARGEST_TABLE), _prime])
    """A prime; a hundred times the number of endpoints, or more, for shares that differ by 1 % at most."""


class Maglev:
    """Consistent hashing (semantics of Envoy)."""

    __slots__ = ("_random", "_size")

    options = MaglevOptions

    def __init__(self, random: Random, options: MaglevOptions = MaglevOptions()) -> None:
        self._random = random
        self._size = options.table_size

    def picker(self, endpoints: Sequence[Endpoint], previous: Picker | None = None) -> MaglevPicker:
        """See LoadBalancer."""
        table = Table(endpoints, self._size)
        before = previous.table if isinstance(previous, MaglevPicker) else None
        return MaglevPicker(endpoints, table, before, self._random)


class Table:
    """Places, and whose each is. Filled in steps."""

    __slots__ = ("_steps", "endpoints", "full", "places", "size")

    def __init__(self, endpoints: Sequence[Endpoint], size: int) -> None:
        self.endpoints = tuple(endpoints)
        self.size = size
        self.places = array("i", [-1]) * size
        self.full = False
        self._steps = self._filling()

    def step(self) -> bool:
        """Look at some more places; return whether it is full now."""
        self.full = next(self._steps, True)
        return self.full

    def _filling(self) -> Iterator[bool]:
        size, places = self.size, self.places
        names = [name.encode("utf-8", "surrogateescape") for name, _ in named(self.endpoints)]
        nexts = [xxh64_intdigest(name) % size for name in names]
        skips = [xxh64_intdigest(name, 1) % (size - 1) + 1 for name in names]
        left, looks = size, 0
        for index in self._turns():
            place, skip = nexts[index], skips[index]
            while places[place] >= 0:
                place += skip
                if place >= size:
                    place -= size
                looks += 1
                if looks >= _STEP:
                    looks = 0
                    yield False
            places[place] = index
            nexts[index] = place
            left -= 1
            if not left:
                return
            looks += 1

    def _turns(self) -> Iterator[int]:
        # One of twice the weight comes twice as often.
        weights = [endpoint.weight for endpoint in self.endpoints]
        if len(set(weights)) == 1:
            while True:
                yield from range(len(weights))
        most = max(weights)
        heap = [(most / weight, index) for index, weight in enumerate(weights)]
        heapq.heapify(heap)
        while True:
            due, index = heap[0]
            yield index
            heapq.heapreplace(heap, (due + most / weights[index], index))


class MaglevPicker(Keyed):
    """Looks up the hash; while the table is being filled, in what it follows, or on a small ring."""

    __slots__ = ("_among", "_before", "_ring", "table")

    def __init__(
        self, endpoints: Sequence[Endpoint], table: Table, before: Table | None, random: Random
    ) -> None:
        self.table = table
        self._before = before if before is not None and before.full else None
        self._among = frozenset(endpoints)
        self._ring: Ring | None = None
        super().__init__(endpoints, self.find, random)
        for _ in range(_AT_ONCE):
            if table.step():
                break

    def find(self, key: int) -> Endpoint:
        """Return whose a hash is."""
        table = self.table
        if not table.full:
            if not table.step():
                return self._meanwhile(key)
            self._before = self._ring = None
        return table.endpoints[table.places[key % table.size]]

    def _meanwhile(self, key: int) -> Endpoint:
        before = self._before
        if before is not None:
            endpoint = before.endpoints[before.places[key % before.size]]
            if endpoint in self._among:
                return endpoint
        if self._ring is None:
            endpoints = self.table.endpoints
            self._ring = Ring(endpoints, [max(1, 1024 // len(endpoints))] * len(endpoints))
        return self._ring.at(key)
