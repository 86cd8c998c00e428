"""Pickers over pools: one pool is drawn by the shares, or by the request's hash, and its own picker picks."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Container, Hashable, Mapping, Sequence
from itertools import accumulate
from random import Random
from typing import Final

import attrs

from xproxy.codecs.state_kinds import mapping, octets, text
from xproxy.codecs.state_schema import StateRecord, StateSchema, state_field
from xproxy.model.errors import NoHealthyEndpoint
from xproxy.stream.exchange import Request
from xproxy.upstream.balance.api import MovablePicker, Picker
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.stats import ClusterStats

_GOLDEN: Final = 0x9E3779B97F4A7C15
_MASK: Final = (1 << 64) - 1
MOST_POOLS: Final = 4096
"""Of which one cluster tells another process."""
_NAME_CHARACTERS: Final = 1024
_TURN_BYTES: Final = 16 * 1024 * 1024


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


@attrs.frozen
class _Turns:
    pools: dict[str, bytes]


_TURNS: Final = StateSchema(
    "turns by pool",
    1,
    StateRecord(
        _Turns,
        state_field("pools", mapping(text(_NAME_CHARACTERS), octets(_TURN_BYTES), MOST_POOLS)),
    ),
)


class Several:
    """The pickers of several pools, for who asks whose turn it is. It picks nothing itself."""

    __slots__ = ("_pickers",)

    def __init__(self, pickers: Mapping[Hashable, Picker]) -> None:
        self._pickers = {str(key): picker for key, picker in pickers.items()}

    def pick(self, request: Request, avoid: Container[object]) -> Endpoint:
        """See Picker: of the first pool."""
        return next(iter(self._pickers.values())).pick(request, avoid)

    def carry(self) -> bytes:
        """See MovablePicker: the turns of those that have turns."""
        turns = {
            name: picker.carry()
            for name, picker in self._pickers.items()
            if isinstance(picker, MovablePicker)
        }
        return _TURNS.pack(_Turns(dict(list(turns.items())[:MOST_POOLS]))) if turns else b""

    def resume(self, data: bytes) -> None:
        """See MovablePicker. Pools that are not here are passed over."""
        turns = _TURNS.unpack(data).pools
        resumed: list[tuple[MovablePicker, bytes]] = []
        try:
            for name, picker in self._pickers.items():
                if name in turns and isinstance(picker, MovablePicker):
                    before = picker.carry()
                    picker.resume(turns[name])
                    resumed.append((picker, before))
        except ValueError:
            for mover, before in resumed:
                mover.resume(before)
            raise


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
