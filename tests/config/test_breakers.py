from __future__ import annotations

import pytest

from tests.live import registry
from xproxy.config.breakers import RetryBudgetConfig
from xproxy.config.findings import InvalidConfig
from xproxy.config.load import load_text

REGISTRY = registry()
TEXT = """
listeners: [{name: in, address: "127.0.0.1:0", routes: all}]
routes: {all: [{cluster: web}]}
clusters:
  web:
    endpoints: ["127.0.0.1:9080"]
    circuit_breakers:
      max_requests: 500
      retry_budget: true
      track_remaining: true
      thresholds: [{priority: high, max_requests: 2000, retry_budget: {budget_percent: 50}}]
"""


def test_priorities_and_budgets_can_be_written() -> None:
    breakers = load_text(TEXT, "x", REGISTRY).clusters["web"].circuit_breakers
    default, high = breakers.of("default"), breakers.of("high")
    assert (default.max_requests, high.max_requests) == (500, 2000)
    assert default.retry_budget == RetryBudgetConfig()
    assert high.retry_budget is not None
    assert (high.retry_budget.budget_percent, high.retry_budget.min_retry_concurrency) == (50, 3)
    assert (default.track_remaining, high.track_remaining) == (True, False)


def test_more_entries_than_make_sense_are_refused() -> None:
    text = (
        TEXT[: TEXT.index("thresholds")] + f"thresholds: [{', '.join(['{priority: high}'] * 17)}]"
    )
    with pytest.raises(InvalidConfig, match="thresholds"):
        load_text(text, "x", REGISTRY)
