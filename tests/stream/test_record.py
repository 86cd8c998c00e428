from __future__ import annotations

from xproxy.stream.record import Record


def test_flags_are_noted_once_and_in_order() -> None:
    record = Record()
    for code in ("UF", "-", "UO", "UF"):
        record.flag(code)
    assert record.flags == "UF,UO"
