"""Drawing among pools: by share, by hash, and what is counted."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from tests.upstream.balance.test_api import REQUEST, endpoints
from xproxy.model.errors import NoHealthyEndpoint
from xproxy.upstream.balance.round_robin import InTurn
from xproxy.upstream.balance.spread import Nobody, Panicking, Spread, fraction
from xproxy.upstream.stats import ClusterStats

ONE, OTHER, NEVER = endpoints([1, 1, 1])
PICKERS = [InTurn([one], 0) for one in (ONE, OTHER, NEVER)]


def test_pools_are_drawn_by_their_shares() -> None:
    spread = Spread(PICKERS, [70, 30, 0], Random(1))
    counts = Counter(spread.pick(REQUEST, ()).address.port for _ in range(10_000))
    assert set(counts) == {1, 2}
    assert (counts[1] - 7000) ** 2 / 7000 + (counts[2] - 3000) ** 2 / 3000 < 10.8  # 0.1 %


def test_the_same_hash_draws_the_same_pool() -> None:
    spread = Spread(PICKERS, [50, 50, 0], Random(1))
    counts: Counter[int] = Counter()
    try:
        for value in range(2000):
            REQUEST.record.hash = value << 48 | value
            ports = {spread.pick(REQUEST, ()).address.port for _ in range(3)}
            assert len(ports) == 1
            counts.update(ports)
    finally:
        REQUEST.record.hash = None
    assert 850 < counts[1] < 1150


def test_fractions_are_below_1() -> None:
    assert all(0 <= fraction(value) < 1 for value in (0, 1, (1 << 64) - 1, 1 << 63))


def test_a_panic_and_a_refusal_are_counted() -> None:
    stats = ClusterStats()
    assert Panicking(PICKERS[0], stats).pick(REQUEST, ()) is ONE
    with pytest.raises(NoHealthyEndpoint, match="no healthy upstream") as caught:
        Nobody(stats).pick(REQUEST, ())
    assert caught.value.flag == "UH"
    assert (stats.lb_healthy_panic, stats.upstream_cx_none_healthy) == (1, 1)
