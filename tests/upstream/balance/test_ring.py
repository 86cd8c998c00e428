"""The ring: how many points each has, whose a hash is, and that one that grows is a ring all the while."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tests.upstream.balance.test_api import endpoints
from xproxy.upstream.balance.ring import Ring, entries

HASH = st.integers(0, (1 << 64) - 1)


def test_minimum_ring_size_1024_is_reached_in_equal_parts() -> None:
    assert entries([1] * 100, 1024, 8 << 20) == [11] * 100
    assert entries([1, 1, 2], 1024, 8 << 20) == [256, 256, 512]
    assert entries([1], 1024, 8 << 20) == [1024]


@given(
    weights=st.lists(st.integers(1, 1_000_000), min_size=1, max_size=20),
    minimum=st.integers(1, 4096),
    maximum=st.integers(20, 8192),
)
def test_points_are_in_proportion_and_no_more_than_the_maximum(
    weights: list[int], minimum: int, maximum: int
) -> None:
    counts = entries(weights, min(minimum, maximum), maximum)
    assert sum(counts) <= maximum
    for weight, count in zip(weights, counts, strict=True):
        assert abs(count - sum(counts) * weight / sum(weights)) <= 2


@given(counts=st.lists(st.integers(1, 50), min_size=1, max_size=8), values=st.lists(HASH))
def test_the_next_point_has_the_key(counts: list[int], values: list[int]) -> None:
    ring = Ring(endpoints([1] * len(counts)), counts)
    assert not ring.growing
    points = sorted(point for bucket in ring._buckets for point in bucket)
    assert len(points) == sum(counts) == ring.size
    for value in [*values, 0, (1 << 64) - 1]:
        wanted = next((one for one in points if one >= value & ~0xFFFFFF), points[0])
        assert ring.at(value) is ring._endpoints[wanted & 0xFFFFFF]


def test_a_ring_that_grows_ends_as_one_that_was_made_at_once() -> None:
    some = endpoints([1, 1, 1])
    whole, growing = Ring(some, [500, 1000, 2000]), Ring(some, [500, 1000, 2000], at_once=100)
    draw = Random(1)
    values = [draw.getrandbits(64) for _ in range(500)]
    while growing.growing:
        assert {growing.at(value) for value in values} == set(some)
        growing.grow(64)
    assert [growing.at(value) for value in values] == [whole.at(value) for value in values]
