"""Lines that are alike."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from xproxy.observe.log_rate import ALIKE_LINES, ALIKE_SECONDS, MAX_KINDS, HeldBack, Kind, Rate

ONE: Kind = ("logger", 20, "one")


def test_some_are_written_and_the_others_counted() -> None:
    rate = Rate()
    admitted = [rate.admit(ONE, 5.0) for _ in range(ALIKE_LINES + 3)]
    assert admitted == [True] * ALIKE_LINES + [False] * 3
    assert rate.admit(("logger", 20, "another"), 5.0)
    assert list(rate.over(5.0 + ALIKE_SECONDS - 1)) == []
    assert list(rate.over(5.0 + ALIKE_SECONDS)) == [HeldBack(ONE, 3, ALIKE_SECONDS)]
    assert rate.admit(ONE, 5.0 + ALIKE_SECONDS)


@given(st.lists(st.tuples(st.integers(0, 600), st.floats(0, 1)), max_size=300))
def test_every_line_is_written_or_counted(lines: list[tuple[int, float]]) -> None:
    rate, now = Rate(), 0.0
    written = held = 0
    for number, pause in lines:
        now += pause
        held += sum(one.count for one in rate.over(now))
        written += rate.admit(("logger", 20, str(number % 7)), now)
    held += sum(one.count for one in rate.over(float("inf")))
    assert written + held == len(lines)


def test_kinds_are_bounded() -> None:
    rate = Rate()
    kinds: list[Kind] = [("logger", 20, str(number)) for number in range(MAX_KINDS + 50)]
    told: list[HeldBack] = []
    for kind in kinds:
        told += rate.over(0.0)
        for _ in range(ALIKE_LINES + 1):
            rate.admit(kind, 0.0)
    left = list(rate.over(1000.0))
    assert [one.kind for one in told + left] == kinds, "those begun longest ago go first"
    assert MAX_KINDS <= len(left) <= MAX_KINDS + 1
