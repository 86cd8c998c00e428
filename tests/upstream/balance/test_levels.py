"""Levels: each line of arithmetic that the reference gives, and what holds for any health of any levels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.upstream.balance.levels import Level, health, loads


@pytest.mark.parametrize(
    ("healthy", "takes", "panic"),
    [
        ((100, 100), (100, 0), (False, False)),
        ((72, 72), (100, 0), (False, False)),
        ((71, 100), (99, 1), (False, False)),
        ((50, 100), (70, 30), (False, False)),
        ((25, 100), (35, 65), (False, False)),
        ((25, 25), (50, 50), (True, True)),
        ((5, 65), (7, 93), (True, False)),
        ((0, 0), (0, 0), (True, True)),
        ((0, 100), (0, 100), (False, False)),
    ],
)
def test_overprovisioning_140_and_panic_50(
    healthy: tuple[int, ...], takes: tuple[int, ...], panic: tuple[bool, ...]
) -> None:
    found = loads([Level(total=100, healthy=one) for one in healthy])
    assert found.healthy == takes
    assert found.degraded == (0, 0)
    assert found.panic == panic


def test_degraded_ones_take_what_healthy_ones_of_all_levels_cannot() -> None:
    levels = [Level(total=100, healthy=25, degraded=75), Level(total=100, healthy=25)]
    found = loads(levels)
    assert found.healthy == (35, 35)
    assert found.degraded == (30, 0)
    assert found.panic == (False, False)


def test_a_threshold_of_0_is_never_a_panic() -> None:
    assert loads([Level(total=4, healthy=0), Level(total=4, healthy=1)], threshold=0).panic == (
        False,
        False,
    )


def test_who_only_fails_of_late_takes_nothing_but_is_no_reason_to_panic() -> None:
    found = loads([Level(total=3, healthy=1, fit=3)])
    assert found.healthy == (100,)
    assert found.panic == (False,)


def test_one_healthy_of_very_many_is_not_none() -> None:
    assert health(1, 1000) == 1
    assert health(0, 1000) == health(0, 0) == 0


LEVEL = st.integers(1, 200).flatmap(
    lambda total: st.integers(0, total).flatmap(
        lambda healthy: st.integers(0, total - healthy).map(
            lambda degraded: Level(total, healthy, degraded)
        )
    )
)


@given(
    levels=st.lists(LEVEL, min_size=1, max_size=6),
    factor=st.integers(100, 300),
    threshold=st.integers(0, 100),
)
def test_all_requests_go_somewhere_and_nobody_takes_more_than_it_can(
    levels: list[Level], factor: int, threshold: int
) -> None:
    found = loads(levels, factor, threshold)
    can = [health(one.healthy, one.total, factor) for one in levels]
    can += [health(one.degraded, one.total, factor) for one in levels]
    takes = [*found.healthy, *found.degraded]
    assert sum(takes) == (100 if any(can) else 0)
    for may, does in zip(can, takes, strict=True):
        assert does == 0 if may == 0 else does >= 0
        if sum(can) >= 100:
            assert does <= may
    if sum(can) >= 100:
        assert not any(found.panic)
        # The best first: who comes after one that is not full takes nothing.
        full = [may == does for may, does in zip(can, takes, strict=True)]
        first = full.index(False) if False in full else len(full)
        assert not any(takes[first + 1 :])
    if threshold == 0:
        assert not any(found.panic)
