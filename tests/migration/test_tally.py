"""What a takeover has done, in a line and for a report."""

from __future__ import annotations

from xproxy.migration.tally import Tally


def test_pauses_by_share() -> None:
    tally = Tally(pauses=[float(number) for number in range(1, 101)])
    assert (tally.pause(0.5), tally.pause(0.99), tally.pause(1.0)) == (51.0, 100.0, 100.0)
    assert Tally().pause(0.5) == 0.0


def test_one_line() -> None:
    tally = Tally(pauses=[0.001])
    tally.moved["http1"] += 2
    tally.refused["http2: no such listener"] += 1
    assert str(tally) == (
        "moved 2 http1; refused 1 http2: no such listener; left none;"
        " stood still for ms: p50 1.0, p99 1.0, max 1.0"
    )
    assert tally.plain() == {
        "moved": {"http1": 2},
        "refused": {"http2: no such listener": 1},
        "left": {},
        "pause_ms": {"p50": 1.0, "p99": 1.0, "max": 1.0},
    }
