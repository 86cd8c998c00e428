"""What a takeover has done, in a line and for a report."""

from __future__ import annotations

from xproxy.migration.tally import MOST_REASONS, Tally
from xproxy.observe.takeover import PAUSE_BOUNDS
from xproxy.supervisor.messages import pack


def test_pauses_by_share() -> None:
    tally = Tally(pauses=[float(number) for number in range(1, 101)])
    assert tally.pauses_at() == {"p50": 51.0, "p99": 100.0, "max": 100.0}
    assert set(Tally().pauses_at().values()) == {0.0}


def test_one_line() -> None:
    tally = Tally()
    tally.gave("http1", 0.001)
    tally.gave("http1", 0.001)
    tally.refused["http2: no such listener"] += 1
    assert str(tally) == (
        "moved 2 http1; refused 1 http2: no such listener; left none;"
        " stood still for ms: p50 1.0, p99 1.0, max 1.0"
    )
    assert tally.plain() == {
        "moved": {"http1": 2},
        "refused": {"http2: no such listener": 1},
        "left": {},
        "relayed": {},
        "pause_ms": {"p50": 1.0, "p99": 1.0, "max": 1.0},
        "pause_bounds_ms": [bound * 1e3 for bound in PAUSE_BOUNDS],
        "pauses": {"http1": [0, 2, *[0] * (len(PAUSE_BOUNDS) - 1)]},
    }


def test_streams_and_pauses_by_protocol() -> None:
    tally = Tally()
    tally.gave("http1", 0.004)
    tally.gave("http2", 9.0)
    tally.relay("http2", 3)
    tally.gave("http2", 0.0001)
    tally.relay("http2", 2)
    plain = tally.plain()
    assert plain["relayed"] == {"http2": 5}
    pauses = plain["pauses"]
    assert isinstance(pauses, dict)
    assert pauses["http1"][3] == 1
    assert (pauses["http2"][0], pauses["http2"][-1]) == (1, 1)


def test_a_report_is_a_message_however_much_was_refused() -> None:
    tally = Tally()
    name = "\u7db2" * 255
    for number in range(5000):
        tally.refused[f"upstream http1: cluster {number}{name} has other settings"] += 1
        tally.left[f"http2: {number}{name}"] += 2
        tally.gave(f"{number}-{'x' * 255}", 0.01)  # the name of a codec is plain
        tally.relay(f"{number}-{'x' * 255}", 1)
    tally.refused["http1: there is no listener edge"] += 7
    plain = tally.plain()
    assert pack({"kind": "report", "step": "given", **plain})
    refused = plain["refused"]
    assert isinstance(refused, dict)
    assert len(refused) <= MOST_REASONS + 1
    assert refused["http1: there is no listener edge"] == 7
    assert sum(refused.values()) == 5007
    assert len(str(tally)) < 20_000


def test_everything_is_told_to_the_process_once() -> None:
    tally = Tally()
    tally.gave("http1", 0.5)
    tally.refuse("http2", "no such listener")
    tally.cut_off("bolt", "takeover.patience", 3)
    tally.took("http1")
    tally.turn_down("http1: full")
    tally.tried("thrift")
    stats = tally.status.stats
    assert dict(tally.moved) == {"http1": 2, "thrift": 1}
    assert (stats.moved, tally.status.taken) == ({"http1": 1}, {"http1": 1})
    assert dict(tally.refused) == {"http2: no such listener": 1, "http1: full": 1}
    assert (stats.refused, stats.refusals) == ({"http2": 1}, {"no such listener": 1})
    assert dict(tally.left) == {"bolt: cut off (takeover.patience)": 3}
    assert stats.failed == {"takeover.patience": 3}
    assert (tally.pauses, stats.pause.count) == ([0.5], 1)


def test_what_a_rehearsal_could_not_try_is_said() -> None:
    tally = Tally()
    assert "not_tried" not in tally.plain()
    tally.untried["http1: a stream is in flight"] += 2
    assert tally.plain()["not_tried"] == {"http1: a stream is in flight": 2}
