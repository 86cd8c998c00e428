"""What becomes of an upstream half of whose answers are errors, when everybody asks again."""

from __future__ import annotations

from random import Random

import pytest
import trio
from trio.testing import MockClock

from tests.attempts import attempt_of
from tests.connection.kit import request_of
from xproxy.config.breakers import CircuitBreakersConfig, RetryBudgetConfig
from xproxy.filters.retry import Retry
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.stream.body import BytesBody
from xproxy.stream.ending import ANSWERED
from xproxy.stream.exchange import Request, Response
from xproxy.upstream.breaker import Breaker
from xproxy.upstream.stats import ClusterStats

CLIENTS, REQUESTS = 60, 40


@pytest.mark.parametrize("budget", [RetryBudgetConfig(), None])
async def test_half_errors_3_retries_budget_20_percent_load_at_most_1_25(
    autojump_clock: MockClock, budget: RetryBudgetConfig | None
) -> None:
    random = Random(4)
    limits = CircuitBreakersConfig(retry_budget=budget, max_retries=1 << 20)
    breaker = Breaker(limits, ClusterStats(), "web")
    stats = breaker.stats
    asked = 0

    async def upstream(request: Request) -> Response:
        nonlocal asked
        asked += 1
        stats.upstream_rq_active += 1
        attempt = attempt_of(request, permits=breaker)
        try:
            await trio.sleep(random.uniform(0.05, 0.15))
        finally:
            stats.upstream_rq_active -= 1
        status = random.choice((Status.UNAVAILABLE, Status.OK))
        attempt.end(ANSWERED[status])
        return Response(ResponseHead(status=status), BytesBody(b""))

    retry = Retry(on=("unavailable",), attempts=3)

    async def client(number: int) -> None:
        for _ in range(REQUESTS):
            request = request_of()
            request.connection.id = number
            await retry(request, upstream)

    async with trio.open_nursery() as nursery:
        for number in range(CLIENTS):
            nursery.start_soon(client, number)
    load = asked / (CLIENTS * REQUESTS)
    if budget is None:
        assert load > 1.7, "without a budget it is 1.875"
    else:
        assert 1.1 < load <= 1.25
        assert stats.upstream_rq_retry_overflow > 0
    assert stats.upstream_rq_retry_active == 0
