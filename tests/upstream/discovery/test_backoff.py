"""Delays double up to a bound, and are spread."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from xproxy.upstream.discovery.backoff import FIRST_SECONDS, MOST_SECONDS, Backoff


@given(
    seed=st.integers(),
    first=st.floats(0.001, 100),
    most=st.floats(0.001, 1000),
    failures=st.integers(1, 60),
)
def test_each_delay_is_of_the_upper_half_of_a_span_that_doubles(
    seed: int, first: float, most: float, failures: int
) -> None:
    backoff = Backoff(Random(seed), first, most)
    for number in range(failures):
        span = min(first * 2**number, max(first, most))
        assert span / 2 <= backoff.delay() <= span
    backoff.reset()
    assert backoff.delay() <= first


def test_by_default_it_is_one_to_thirty_seconds() -> None:
    assert (FIRST_SECONDS, MOST_SECONDS) == (1.0, 30.0)
    backoff = Backoff(Random(1))
    assert 0.5 <= backoff.delay() <= 1
    delays = [backoff.delay() for _ in range(20)]
    assert 15 <= delays[-1] <= 30
    assert len(set(delays)) == 20
