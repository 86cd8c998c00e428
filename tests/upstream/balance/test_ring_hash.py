"""Ring hash: keys stay, whoever comes or goes."""

from __future__ import annotations

from random import Random

import pytest

from tests.upstream.balance.keys import moved, owners, pick
from tests.upstream.balance.test_api import endpoints
from xproxy.upstream.balance.ring_hash import RingHash, RingHashOptions


def test_defaults_are_1024_and_8_mi() -> None:
    options = RingHashOptions()
    assert (options.minimum_ring_size, options.maximum_ring_size) == (1024, 8 * 1024 * 1024)
    with pytest.raises(ValueError, match="must be <= 8388608"):
        RingHashOptions(maximum_ring_size=8388609)


def test_one_of_100_endpoints_removed_moves_2_percent_of_keys_at_most() -> None:
    some = endpoints([1] * 100)
    before = owners(RingHash(Random(1)).picker(some))
    for gone in (0, 37, 99):
        rest = some[:gone] + some[gone + 1 :]
        after = owners(RingHash(Random(2)).picker(rest))
        assert moved(before, after) <= 2
        # Those that it had, and no others.
        assert all(a is b or b is some[gone] for a, b in zip(after, before, strict=True))


def test_shares_are_as_even_as_the_ring_is_large() -> None:
    some = endpoints([1, 2, 5])
    picks = owners(RingHash(Random(1), RingHashOptions(minimum_ring_size=65536)).picker(some))
    for one in some:
        assert abs(picks.count(one) / len(picks) - one.weight / 8) < 0.02


def test_a_large_ring_is_made_little_by_little() -> None:
    some = endpoints([1, 100_000])
    picker = RingHash(Random(1)).picker(some)
    assert {pick(picker, number << 52) for number in range(200)} == {some[1]}
    assert pick(picker, 5, some[1:]) is some[0]
