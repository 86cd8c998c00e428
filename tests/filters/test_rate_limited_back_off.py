from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.filters.rate_limited_back_off import RateLimitedBackOff
from xproxy.model.headers import Headers

WAIT = RateLimitedBackOff()


@given(st.integers(1, 300), st.floats(0, 1, exclude_max=True))
def test_retry_after_is_waited_for_and_half_as_much_again_at_most(after: int, draw: float) -> None:
    wait = WAIT.wait(Headers([("Retry-After", str(after))]), draw)
    assert wait is not None
    assert after <= wait <= 1.5 * after


def test_a_reset_is_a_unix_time() -> None:
    headers = Headers([("X-RateLimit-Reset", "1000")])
    assert WAIT.wait(headers, 0.0, lambda: 990.0) == 10.0
    assert WAIT.wait(headers, 0.0, lambda: 1001.0) is None


@pytest.mark.parametrize("text", ["301", "0", "-1", "soon", "", "1" * 13])
def test_beyond_max_interval_300_s_and_without_a_number_nothing_is_said(text: str) -> None:
    assert WAIT.wait(Headers([("retry-after", text)]), 0.5) is None


def test_the_first_that_says_it_counts() -> None:
    headers = Headers([("x-ratelimit-reset", "1000"), ("retry-after", "2")])
    assert WAIT.wait(headers, 0.0, lambda: 990.0) == 2.0
