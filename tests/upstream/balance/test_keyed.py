"""Picking by key: without one, and when somebody is to be avoided."""

from __future__ import annotations

from random import Random

from tests.upstream.balance.keys import chi_square, critical, pick
from tests.upstream.balance.test_api import endpoints
from xproxy.upstream.balance.keyed import Keyed

SOME = endpoints([1, 2, 3])


def keyed() -> Keyed:
    return Keyed(SOME, lambda key: SOME[key % 3], Random(5))


def test_without_a_key_it_is_random_by_weight() -> None:
    picker = keyed()
    picks = [pick(picker, None) for _ in range(6000)]
    assert chi_square(picks, SOME) < critical(SOME)


def test_a_key_has_one_endpoint_and_one_other_when_that_is_avoided() -> None:
    picker = keyed()
    for key in range(300):
        owner = SOME[key % 3]
        assert pick(picker, key) is owner
        others = {pick(picker, key, [owner]) for _ in range(5)}
        assert len(others) == 1
        assert owner not in others


def test_one_that_is_always_found_is_avoided_all_the_same() -> None:
    picker = Keyed(SOME, lambda key: SOME[0], Random(5))
    assert pick(picker, 7, SOME[:1]) in SOME[1:]
    assert pick(picker, 7, SOME) in SOME
