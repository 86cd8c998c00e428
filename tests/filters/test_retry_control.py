from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.filters.retry_control import FIELDS, MOST_CLIENT_RETRIES, Asked, asked
from xproxy.model.headers import Headers


def test_what_is_said_is_read() -> None:
    said = asked(
        Headers(
            [
                ("X-Envoy-Retry-On", "5xx, retriable-status-codes, Cancelled"),
                ("x-envoy-max-retries", "4"),
                ("x-envoy-retriable-status-codes", "418, x, 429"),
                ("x-envoy-upstream-rq-timeout-ms", "1500"),
                ("x-envoy-upstream-rq-per-try-timeout-ms", "250"),
            ]
        )
    )
    assert said.on == ("5xx", "retriable-status-codes", "cancelled")
    assert (said.attempts, said.statuses) == (4, (418, 429))
    assert (said.timeout, said.per_try_timeout) == (1.5, 0.25)


def test_no_more_retries_than_10_are_given() -> None:
    assert MOST_CLIENT_RETRIES == 10
    assert asked(Headers([("x-envoy-max-retries", "99999")])).attempts == 10


@pytest.mark.parametrize("text", ["", "-1", "x", "1.5", "9" * 10, "\u0664"])
def test_what_cannot_be_read_was_not_said(text: str) -> None:
    assert asked(Headers([(name, text) for name in FIELDS if "on" not in name])) == Asked()


@given(st.text())
def test_any_text_can_be_said(text: str) -> None:
    said = asked(Headers([(name, text) for name in FIELDS]))
    assert said.attempts is None or 0 <= said.attempts <= MOST_CLIENT_RETRIES
