"""Pickers over pools: one pool is drawn by the shares, or by the request's hash, and its own picker picks."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Container, Sequence
from itertools import accumulate
from random import Random
from typing import Final

from xproxy.model.errors import NoHealthyEndpoint
from xproxy.stream.exchange import Request
from xproxy.upstream.balance.api import Picker
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.stats import ClusterStats

_GOLDEN: Final = 0x9E3779B97F4A7C15
_MASK: Final = (1 << 64) - 1


def fraction(value: int) -> float:
    """Return a number from 0 to below 1 for a hash of 64 bits: another order than its own.

    A balancer that hashes goes by the hash itself; what is drawn with this says nothing of where that is.
    """
    return ((value * _GOLDEN & _MASK) >> 11) * 2.0**-53


class Spread:
    """Draws a pool, by the hash where the request has one: then it is the same pool as long as the shares are."""

    __slots__ = ("_bounds", "_pickers", "_random")

    def __init__(self, pickers: Sequence[Picker], shares: Sequence[float], random: Random) -> None:
        self._pickers = tuple(pickers)
        self._bounds = list(accumulate(shares))
        self._random = random

    def pick(self, request: Request, avoid: Container[object]) -> Endpoint:
        """See Picker; it may pick one of ``avoid`` where its pool has no other."""
        known = request.record.hash
        drawn = self._random.random() if known is None else fraction(known)
        index = bisect(self._bounds, drawn * self._bounds[-1], 0, len(self._bounds) - 1)
        return self._pickers[index].pick(request, avoid)


class Panicking:
    """Counts requests that went to endpoints that may not be fit."""

    __slots__ = ("_picker", "_stats")

    def __init__(self, picker: Picker, stats: ClusterStats) -> None:
        self._picker = picker
        self._stats = stats

    def pick(self, request: Request, avoid: Container[object]) -> Endpoint:
        """See Picker."""
        self._stats.lb_healthy_panic += 1
        return self._picker.pick(request, avoid)


class Nobody:
    """Refuses: there is no endpoint that a request may go to."""

    __slots__ = ("_stats",)

    def __init__(self, stats: ClusterStats) -> None:
        self._stats = stats

    def pick(self, request: Request | None, avoid: Container[object]) -> Endpoint:
        """Raise NoHealthyEndpoint, and count it."""
        self._stats.upstream_cx_none_healthy += 1
        raise NoHealthyEndpoint("no healthy upstream")
