"""Maglev: even shares, keys that stay, and a table that is filled while it is in use."""

from __future__ import annotations

from random import Random

import pytest

from tests.upstream.balance.keys import chi_square, critical, moved, owners, pick
from tests.upstream.balance.test_api import endpoints
from xproxy.upstream.balance.api import Picker
from xproxy.upstream.balance.maglev import Maglev, MaglevOptions, MaglevPicker
from xproxy.upstream.endpoint import Endpoint


def full(some: list[Endpoint], previous: Picker | None = None) -> MaglevPicker:
    picker = Maglev(Random(1)).picker(some, previous)
    while not picker.table.full:
        picker.find(1)
    return picker


@pytest.mark.parametrize("size", [65_538, 5_000_012, 1, 4, 65_536 * 3])
def test_a_table_size_is_a_prime_of_5000011_at_most(size: int) -> None:
    assert MaglevOptions().table_size == 65_537
    assert MaglevOptions(table_size=5_000_011).table_size == 5_000_011
    with pytest.raises(ValueError, match=r"must be"):
        MaglevOptions(table_size=size)


def test_places_are_shared_by_weight() -> None:
    some = endpoints([1, 2, 5])
    places = full(some).table.places
    for index, one in enumerate(some):
        assert abs(places.count(index) / len(places) - one.weight / 8) < 0.001


def test_keys_are_spread_evenly() -> None:
    some = endpoints([1] * 100)
    assert chi_square(owners(full(some)), some) < critical(some)


def test_one_of_100_endpoints_removed_moves_2_percent_of_keys_at_most() -> None:
    some = endpoints([1] * 100)
    before = full(some)
    after = full([*some[:37], *some[38:]], before)
    assert moved(owners(before), owners(after)) <= 2


def test_while_its_table_is_being_filled_it_goes_by_the_one_before() -> None:
    some = endpoints([1] * 10)
    before = full(some)
    draw = Random(3)
    keys = [draw.getrandbits(64) for _ in range(200)]
    owned = [pick(before, key) for key in keys]
    picker = Maglev(Random(1)).picker(some[1:], before)
    found = [picker.find(key) for key in keys]
    assert not picker.table.full
    assert some[0] not in found
    assert all(a is b for a, b in zip(owned, found, strict=True) if a is not some[0])


def test_the_first_table_is_in_use_from_the_first_request() -> None:
    some = endpoints([1] * 50)
    picker = Maglev(Random(1)).picker(some)
    assert not picker.table.full
    assert pick(picker, 12345) is pick(picker, 12345)
    assert not picker.table.full
