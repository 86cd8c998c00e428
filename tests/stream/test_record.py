from __future__ import annotations

from xproxy.stream.record import Record


def test_flags_are_noted_once_and_in_order() -> None:
    record = Record()
    for code in ("UF", "-", "UO", "UF"):
        record.flag(code)
    assert record.flags == "UF,UO"


def test_a_fork_is_as_urgent_as_its_request() -> None:
    assert Record().priority == 0
    assert Record(priority=2).fork().priority == 2
