"""Attempts that were made elsewhere, as records show them here."""

from __future__ import annotations

import pytest

from xproxy.config.breakers import CircuitBreakersConfig
from xproxy.connection.flowing import PastAttempt
from xproxy.connection.plain import attempts_of
from xproxy.stream.record import Record
from xproxy.upstream.breaker import Breaker
from xproxy.upstream.past import past
from xproxy.upstream.stats import ClusterStats

PERMITS = Breaker(CircuitBreakersConfig(), ClusterStats(), "c")
ATTEMPTS = (
    PastAttempt(endpoint="127.0.0.1:1", began=3.0, ended=2.0, failed=True, detail="reset"),
    PastAttempt(endpoint="unix:/b", began=2.0, answered=1.5, ended=1.0),
)


async def test_they_are_the_same_in_order() -> None:
    last = past(ATTEMPTS, PERMITS, 100.0)
    assert last is not None
    record = Record(attempt=last)
    assert [str(one.endpoint.address) for one in record.attempts] == ["127.0.0.1:1", "unix:/b"]
    assert len(record.tried) == 1
    assert record.permits is PERMITS
    assert attempts_of(record.attempts, 100.0) == ATTEMPTS
    await last.aclose()


def test_none_is_none_and_a_wrong_address_is_refused() -> None:
    assert past((), PERMITS, 0.0) is None
    with pytest.raises(ValueError, match="host:port"):
        past((PastAttempt(endpoint="nowhere", began=1.0),), PERMITS, 0.0)
