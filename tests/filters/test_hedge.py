from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.attempts import attempt_of
from xproxy.filters.hedge import Hedge
from xproxy.model.errors import ConnectFailed
from xproxy.model.limits import Duration
from xproxy.model.status import Status

Kit = Any  # Any: conftest.py cannot be imported

HEDGE_AFTER = Duration(0.1)


@pytest.mark.parametrize("protocol", ["web", "rpc"])
async def test_a_late_answer_is_asked_for_elsewhere_and_the_loser_is_given_up(
    kit: Kit, autojump_clock: MockClock, protocol: str
) -> None:
    tried: list[Any] = []

    async def upstream(request: Any) -> Any:
        tried.append(request.record.tried)
        attempt = attempt_of(request)
        if len(tried) == 1:
            try:
                await trio.sleep_forever()
            finally:
                tried.append("given up")
        assert attempt.previous is not None
        tried[1:1] = [attempt.previous.endpoint]
        return kit.response()

    hedge = Hedge(after=HEDGE_AFTER)
    request = getattr(kit, protocol)()
    answer = await hedge(request, upstream)
    assert trio.current_time() == pytest.approx(0.1)
    assert kit.closed(answer) == 0
    assert tried[0] == []
    assert tried[2] == [tried[1]], "it went elsewhere"
    assert tried[3] == "given up"
    stats = hedge.statistics()[2]
    assert (stats.hedged, stats.won, stats.lost) == (1, 1, 1)


async def test_an_answer_in_time_is_asked_for_once(kit: Kit, autojump_clock: MockClock) -> None:
    upstream = kit.upstream()
    await Hedge(after=HEDGE_AFTER)(kit.web(), upstream)
    assert len(upstream.seen) == 1


async def test_the_first_acceptable_answer_counts_and_the_other_is_closed(
    kit: Kit, autojump_clock: MockClock
) -> None:
    bad, good = kit.response(503, status=Status.UNAVAILABLE), kit.response()
    bad_lease = bad.lease
    answers = [(0.3, good), (0.05, bad)]

    async def upstream(request: Any) -> Any:
        wait, answer = answers.pop(0)
        await trio.sleep(wait)
        return answer

    hedge = Hedge(after=HEDGE_AFTER)
    assert await hedge(kit.web(), upstream) is good
    assert trio.current_time() == pytest.approx(0.3)
    assert bad_lease.closed == 1
    assert kit.closed(good) == 0


async def test_if_none_is_acceptable_the_last_outcome_goes_on(
    kit: Kit, autojump_clock: MockClock
) -> None:
    async def upstream(request: Any) -> Any:
        await trio.sleep(0.15)
        raise ConnectFailed("refused")

    with pytest.raises(ConnectFailed):
        await Hedge(after=HEDGE_AFTER)(kit.web(), upstream)
    assert trio.current_time() == pytest.approx(0.25)


class Permits:
    def __init__(self, left: int) -> None:
        self.left = left

    def acquire(self, client: int) -> bool:
        self.left -= 1
        return self.left >= 0

    def release(self, client: int) -> None:
        self.left += 1


@pytest.mark.parametrize("left", [0, 1])
async def test_it_needs_a_permit_and_gives_it_back(
    kit: Kit, autojump_clock: MockClock, left: int
) -> None:
    permits = Permits(left)
    asked = 0

    async def upstream(request: Any) -> Any:
        nonlocal asked
        asked += 1
        attempt_of(request, permits=permits)
        await trio.sleep(0.2)
        return kit.response()

    hedge = Hedge(after=HEDGE_AFTER)
    await hedge(kit.web(), upstream)
    assert asked == 1 + left
    assert hedge.statistics()[2].overflow == 1 - left
    assert permits.left == (1 if left else -1)


async def test_a_body_in_pieces_is_not_hedged(kit: Kit, autojump_clock: MockClock) -> None:
    async def upstream(request: Any) -> Any:
        await trio.sleep(1)
        return kit.response()

    hedge = Hedge(after=HEDGE_AFTER)
    await hedge(kit.web(method="POST", body=kit.body(b"1")), upstream)
    assert hedge.statistics()[2].hedged == 0


@pytest.mark.parametrize("fields", [{"hedges": 0}, {"hedges": 11}, {"after": 0}])
def test_bad_configuration_is_refused(fields: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        Hedge(**{"after": HEDGE_AFTER, **fields})
