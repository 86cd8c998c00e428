"""Slow start: the formula, and who begins with little."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.upstream.balance.test_api import REQUEST, endpoints
from xproxy.model.limits import Duration
from xproxy.upstream.balance.api import LoadBalancer
from xproxy.upstream.balance.least_request import LeastRequest, LeastRequestOptions
from xproxy.upstream.balance.round_robin import RoundRobin, RoundRobinOptions
from xproxy.upstream.balance.slow_start import SlowStart
from xproxy.upstream.choice import Choice

SLOW = SlowStart(window=Duration(60.0))


@pytest.mark.parametrize(
    ("age", "aggression", "factor"),
    [(0, 1, 0.1), (3, 1, 0.1), (30, 1, 0.5), (60, 1, 1), (99, 1, 1), (15, 2, 0.5), (-1, 1, 0.1)],
)
def test_min_weight_10_percent_and_time_by_window_to_the_1_by_aggression(
    age: float, aggression: float, factor: float
) -> None:
    assert SlowStart(window=Duration(60.0), aggression=aggression).factor(age) == pytest.approx(
        factor
    )
    assert (SLOW.aggression, SLOW.min_weight_percent) == (1.0, 10.0)


@given(
    ages=st.tuples(st.floats(0, 200), st.floats(0, 200)),
    slow=st.builds(
        SlowStart,
        window=st.floats(0.1, 100).map(Duration),
        aggression=st.floats(0.1, 10),
        min_weight_percent=st.floats(0.1, 100),
    ),
)
def test_it_never_goes_down_and_ends_whole(ages: tuple[float, float], slow: SlowStart) -> None:
    younger, older = sorted(ages)
    assert slow.min_weight_percent / 100 <= slow.factor(younger) <= slow.factor(older) <= 1


@pytest.mark.parametrize(
    "balancer",
    [
        RoundRobin(Random(1), RoundRobinOptions(slow_start=SLOW)),
        LeastRequest(Random(1), LeastRequestOptions(slow_start=SLOW)),
    ],
)
async def test_who_comes_has_its_share_after_the_window(
    balancer: LoadBalancer, mock_clock: MockClock
) -> None:
    some = endpoints([1, 1, 1])
    choice = Choice(balancer, some[:2])

    def shares() -> Counter[int]:
        return Counter(choice.choose(REQUEST).address.port for _ in range(3000))

    REQUEST.record.attempt = None
    assert shares()[1] == pytest.approx(
        1500, abs=150
    )  # whoever was there first has no start to make
    choice.change(some)
    assert shares()[3] == pytest.approx(3000 * 0.1 / 2.1, abs=30)
    mock_clock.jump(30)
    assert shares()[3] == pytest.approx(3000 * 0.5 / 2.5, abs=60)
    mock_clock.jump(30)
    assert shares()[3] == pytest.approx(1000, abs=60)
    # One that was not available, and is again, is new as well.
    some[0].failing_until = mock_clock.current_time() + 5
    choice.marked()
    assert shares()[1] == 0
    mock_clock.jump(6)
    assert shares()[1] == pytest.approx(3000 * 0.1 / 2.1, abs=30)
