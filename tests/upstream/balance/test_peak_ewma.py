"""Peak EWMA: who answers sooner gets more, who stalls is left at once and tried again."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from trio.testing import MockClock

from tests.attempts import attempt_of
from tests.upstream.balance.test_api import REQUEST, endpoints
from xproxy.model.errors import UpstreamReset
from xproxy.model.status import Status
from xproxy.stream.ending import ANSWERED, Broke
from xproxy.upstream.balance.peak_ewma import Cost, PeakEwma, PeakEwmaOptions
from xproxy.upstream.endpoint import Endpoint


def tried(
    endpoint: Endpoint, balancer: PeakEwma, began: float, took: float, *, broke: bool
) -> None:
    attempt = attempt_of(REQUEST, endpoint)
    attempt.end(Broke(UpstreamReset("")) if broke else ANSWERED[Status.OK])
    attempt.began, attempt.ended = began, began + took
    balancer.ended(attempt)


def test_defaults_are_decay_10_s_and_initial_rtt_30_ms() -> None:
    assert (PeakEwmaOptions().decay, PeakEwmaOptions().initial_rtt) == (10.0, 0.03)


def test_a_cost_goes_up_at_once_and_comes_down_slowly() -> None:
    cost = Cost(0.03, 0.0)
    cost.learn(2.0, 1.0, 10.0, answered=True)
    assert cost.now(1.0, 10.0) == 2.0
    cost.learn(0.01, 1.1, 10.0, answered=True)
    assert cost.now(1.1, 10.0) == pytest.approx(1.98, abs=0.01)
    assert cost.now(11.1, 10.0) == pytest.approx(1.98 / 2.718, abs=0.01)


def test_a_failure_is_no_quick_answer() -> None:
    cost = Cost(0.5, 0.0)
    cost.learn(0.001, 0.0, 10.0, answered=False)
    assert cost.now(0.0, 10.0) == 0.5
    cost.learn(1.0, 0.0, 10.0, answered=False)
    assert cost.now(0.0, 10.0) == 1.0


async def test_the_quicker_gets_more_and_the_slow_one_is_tried_again(mock_clock: MockClock) -> None:
    some = endpoints([1, 1])
    balancer = PeakEwma(Random(4))
    picker = balancer.picker(some)
    now = mock_clock.current_time()
    tried(some[0], balancer, now, 0.5, broke=False)
    tried(some[1], balancer, now, 0.01, broke=False)
    counts = Counter(id(picker.pick(REQUEST)) for _ in range(1000))
    assert counts[id(some[0])] < 300  # those of which both draws were it
    mock_clock.jump(60)
    some[1].active = 1
    assert balancer.rtt(some[0]) < 0.03
    assert Counter(id(picker.pick(REQUEST)) for _ in range(1000))[id(some[0])] > 200


async def test_one_that_breaks_off_at_once_does_not_draw_all_requests(
    mock_clock: MockClock,
) -> None:
    some = endpoints([1, 1])
    balancer = PeakEwma(Random(4))
    tried(some[0], balancer, mock_clock.current_time(), 0.0001, broke=True)
    assert balancer.rtt(some[0]) == pytest.approx(0.03)
