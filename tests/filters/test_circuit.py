from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.filters.circuit import Circuit, State, Window


def circuit() -> Circuit:
    return Circuit(window=Window(10.0), sleep_window=10.0, volume=20, error_percent=50.0)


def test_20_outcomes_of_which_50_percent_failed_open_it_for_10_seconds() -> None:
    one = circuit()
    for number in range(19):
        one.ended(0.0, failed=number % 2 == 0, probe=False)
    assert one.admit(0.0) is True, "19 are too few"
    one.ended(0.0, failed=True, probe=False)
    assert one.state is State.OPEN
    assert one.admit(9.9) is False
    assert one.admit(10.0) is None, "a probe"
    assert one.admit(10.0) is False, "one at a time"


def test_fewer_failures_do_not() -> None:
    one = circuit()
    for number in range(1000):
        one.ended(0.0, failed=number % 100 > 50, probe=False)
    assert one.state is State.CLOSED


@pytest.mark.parametrize(("failed", "state"), [(False, State.CLOSED), (True, State.OPEN)])
def test_a_probe_decides(failed: bool, state: State) -> None:
    one = circuit()
    for _ in range(20):
        one.ended(0.0, failed=True, probe=False)
    assert one.admit(10.0) is None
    one.ended(11.0, failed=False, probe=False)
    assert one.state is State.HALF_OPEN, "what began before does not decide"
    one.ended(11.0, failed=failed, probe=True)
    assert one.state is state
    assert one.admit(20.9) is (not failed)
    one.ended(12.0, failed=True, probe=False)
    assert one.state is state, "all was forgotten"


def test_a_probe_that_was_given_up_is_followed_by_another() -> None:
    one = circuit()
    for _ in range(20):
        one.ended(0.0, failed=True, probe=False)
    assert one.admit(10.0) is None
    one.gave_up(10.5)
    assert one.admit(10.5) is None


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=60))
def test_a_window_counts_what_is_not_older(steps: list[tuple[float, bool]]) -> None:
    window, now, seen = Window(10.0), 0.0, []
    for step, failed in steps:
        now += step
        seen.append((now, failed))
        total, failures = window.add(now, failed)
        assert sum(now - at < 9 - 1e-6 for at, _ in seen) <= total
        assert total <= sum(now - at <= 10 + 1e-6 for at, _ in seen)
        assert failures <= sum(bad for at, bad in seen if now - at <= 10 + 1e-6)
