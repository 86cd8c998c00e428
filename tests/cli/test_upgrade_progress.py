"""What a person reads of an upgrade."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from xproxy.cli.upgrade_progress import Progress, bars, line

GIVEN: dict[str, Any] = {
    "kind": "progress",
    "step": "given",
    "index": 0,
    "generation": 1,
    "moved": {"http2": 1, "http1": 3},
    "refused": {"bolt: no snapshot": 2},
    "left": {},
    "relayed": {"http2": 5},
    "pause_bounds_ms": [1.0, 5.0, 20.0],
    "pauses": {"http1": [8, 1, 0, 0], "http2": [0, 0, 0, 1]},
    "pause_ms": {"p50": 1.25, "p99": 3.0, "max": 8.0},
}


def test_a_line_holds_plain_text() -> None:
    assert line(GIVEN) == (
        "generation 1 worker 0: given: moved 3 http1, 1 http2; refused 2 bolt: no snapshot;"
        " streams relayed 5 http2; stood still for ms: p50 1.2, p99 3.0, max 8.0"
    )
    assert line({"step": "prepared", "worker": 1}) == "worker 1: prepared"
    assert line({"step": "ready", "generation": 2, "not_carried": ["a b: why"]}) == (
        "generation 2 worker 0: ready: not carried a b: why"
    )
    tried = {"step": "rehearsed", "moved": {"http1": 1}}
    assert line(tried) == "worker 0: rehearsed: could move 1 http1"
    assert line({"step": "withdrawn", "why": "it hangs"}) == "worker 0: withdrawn: it hangs"


def test_the_summary_adds_workers_up_and_only_what_those_say_who_give() -> None:
    progress = Progress()
    assert (progress.summary(), progress.tried()) == ("", "")
    other = {**GIVEN, "index": 1, "pause_ms": {"p50": 0.5, "p99": 9.0, "max": 9.5}}
    newer = {**GIVEN, "generation": 2, "step": "alone", "moved": {"http1": 90}}
    for report in ({"step": "prepared"}, {**GIVEN, "moved": {}}, GIVEN, other, newer):
        progress.note(report)
    assert progress.summary() == (
        "; moved 6 http1, 2 http2; refused 4 bolt: no snapshot; streams relayed 10 http2;"
        " stood still for ms: p50 1.2, p99 9.0, max 9.5"
    )
    assert progress.tried() == "; could move 6 http1, 2 http2; could not 4 bolt: no snapshot"


def shown(progress: Progress) -> list[str]:
    console = Console(width=80, record=True, quiet=False, file=None)
    with console.capture() as capture:
        console.print(progress.table())
    return capture.get().splitlines()


def test_the_table_has_a_row_for_each_protocol() -> None:
    progress = Progress()
    progress.note({"step": "prepared", "worker": 1})
    assert "worker 1: the new one could serve" in shown(progress)[0]
    progress.note({**GIVEN, "step": "giving", "waiting": {"http1": 7}})
    progress.note({**GIVEN, "step": "given", "index": 1})
    lines = shown(progress)
    assert lines[0].strip() == "worker 1: all that can move has moved"
    rows = [row.split() for row in lines]
    assert ["moved", "refused", "waiting", "relayed", "stood", "still"] in rows
    assert ["http1", "6", "0", "7", "0", "█▁··"] in rows
    assert ["bolt", "0", "4", "0", "0"] in rows
    assert ["http2", "2", "0", "0", "10", "···█"] in rows
    assert "how many for up to 1, 5, 20 ms, and longer" in " ".join(lines)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([], ""), ([0, 0], "··"), ([1, 8, 4], "▁█▄"), ([1, 1000000], "▁█"), ([-1, 3], "·█")],
)
def test_a_histogram_as_a_line(counts: list[int], expected: str) -> None:
    assert bars(counts) == expected


def test_histograms_that_are_cut_otherwise_are_not_added_up() -> None:
    progress = Progress()
    progress.note(GIVEN)
    others: list[dict[str, object]] = [{"pause_bounds_ms": [2.0]}, {"pauses": {"http1": [1, 2]}}]
    for index, other in enumerate(others, 1):
        progress.note({**GIVEN, **other, "index": index})
    assert any("█▁··" in row for row in shown(progress))


def test_what_another_version_says_otherwise_is_no_failure() -> None:
    progress = Progress()
    progress.note({"step": "given", "moved": 3})
    progress.note({"step": "given", "moved": {"http1": "many"}, "refused": None, "pause_ms": 3})
    assert progress.summary() == "; moved 0 http1; refused none"
    assert line({"step": "given", "moved": 3, "pause_ms": 3}) == "worker 0: given: moved 3"
