"""A ring of hashes: each endpoint stands on it at many points, and a key belongs to the next point after its hash.

Who comes or goes takes or leaves the keys before its own points, and no others. A large ring is filled little by
little: what there is of it is a ring already, on which shares are less even.
(idea: Karger et al., "Consistent hashing and random trees"; envoy: ring_hash_lb.cc, for sizes and names)
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice
from typing import Final

from xxhash import xxh64_intdigest

from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.membership import named

_INDEX_BITS: Final = 24
"""Low bits of a point that say whose it is: as many endpoints as a cluster may ever have."""
_INDEX: Final = (1 << _INDEX_BITS) - 1
_PER_BUCKET: Final = 8
_EMPTY: Final = array("Q")
"""Stands for all buckets that nothing is in; nothing is ever put into it."""


def entries(weights: Sequence[int], minimum: int, maximum: int) -> list[int]:
    """Return how many points each endpoint has, in proportion to its weight (Envoy's arithmetic).

    The one of the least weight has its part of ``minimum``, rounded up; all together have ``maximum`` at most.
    """
    total = sum(weights)
    least = min(weights) / total
    scale = min(math.ceil(least * minimum) / least, maximum)
    ends = [math.ceil(scale * end / total - 1e-9) for end in accumulate(weights)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


class Ring:
    """Points of endpoints, in buckets by their first bits: each is sorted when somebody looks at it."""

    __slots__ = ("_buckets", "_endpoints", "_points", "_shift", "_sorted", "growing", "size")

    def __init__(
        self, endpoints: Sequence[Endpoint], counts: Sequence[int], at_once: int = 4096
    ) -> None:
        """``counts``: points of each; ``at_once``: so many are set now, the others with ``grow``."""
        self._endpoints = tuple(endpoints)
        self.size = sum(counts)
        bits = max(1, (self.size // _PER_BUCKET).bit_length())
        self._shift = 64 - bits
        self._buckets: list[array[int]] = [_EMPTY] * (1 << bits)
        self._sorted = bytearray(1 << bits)
        self._points = self._all_points(counts, -(-self.size // at_once))
        self.growing = True
        """Not all points are set."""
        self.grow(at_once)

    def _all_points(self, counts: Sequence[int], rounds: int) -> Iterator[int]:
        # In rounds, so that every part of the ring has the endpoints in proportion.
        names = [name.encode("utf-8", "surrogateescape") for name, _ in named(self._endpoints)]
        for turn in range(rounds):
            for index, count in enumerate(counts):
                name = names[index]
                for number in range(count * turn // rounds, count * (turn + 1) // rounds):
                    yield xxh64_intdigest(b"%b_%d" % (name, number)) & ~_INDEX | index

    def grow(self, count: int) -> None:
        """Set ``count`` more points, where there are so many."""
        shift, buckets, in_order = self._shift, self._buckets, self._sorted
        done = 0
        for point in islice(self._points, count):
            bucket = point >> shift
            held = buckets[bucket]
            if held is _EMPTY:
                held = buckets[bucket] = array("Q")
            held.append(point)
            in_order[bucket] = 0
            done += 1
        self.growing = done == count

    def at(self, value: int) -> Endpoint:
        """Return whose the hash ``value`` (64 bits) is."""
        buckets = self._buckets
        number = value >> self._shift
        bucket = buckets[number]
        if bucket and not self._sorted[number]:
            bucket = self._sort(number)
        place = bisect_left(bucket, value & ~_INDEX)
        while place == len(bucket):
            number = number + 1 if number + 1 < len(buckets) else 0
            bucket = buckets[number]
            if bucket and not self._sorted[number]:
                bucket = self._sort(number)
            place = 0
        return self._endpoints[bucket[place] & _INDEX]

    def _sort(self, number: int) -> array[int]:
        bucket = self._buckets[number] = array("Q", sorted(self._buckets[number]))
        self._sorted[number] = 1
        return bucket
