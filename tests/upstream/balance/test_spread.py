"""Drawing among pools: by share, by hash, and what is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from random import Random

import msgpack
import pytest

from tests.upstream.balance.test_api import REQUEST, endpoints
from xproxy.model.errors import NoHealthyEndpoint
from xproxy.upstream.balance.api import Picker
from xproxy.upstream.balance.round_robin import InTurn
from xproxy.upstream.balance.spread import Nobody, Panicking, Several, Spread, fraction
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


def test_each_pool_keeps_its_turn_in_another_process() -> None:
    def pickers() -> dict[Hashable, Picker]:
        some = endpoints([1] * 6)
        return {(0, "healthy"): InTurn(some[:3], 0), (1, "healthy"): InTurn(some[3:], 0)}

    old, new = pickers(), pickers()
    for _ in range(2):
        old[1, "healthy"].pick(REQUEST, ())
    data = Several(old).carry()
    Several(new).resume(data)
    assert Several(new).carry() == data
    assert new[1, "healthy"].pick(REQUEST, ()).address.port == 6
    assert Several(new).pick(REQUEST, ()).address.port == 1
    # Whole or not at all.
    broken = pickers()
    wrong = msgpack.packb(
        [
            "turns by pool",
            1,
            {
                "pools": {
                    "(0, 'healthy')": InTurn(endpoints([1] * 3), 2).carry(),
                    "(1, 'healthy')": b"x",
                }
            },
        ]
    )
    for bad in (wrong, b"", b"\x00"):
        with pytest.raises(ValueError, match="snapshot of"):
            Several(broken).resume(bad)
    assert Several(broken).carry() == Several(pickers()).carry()
