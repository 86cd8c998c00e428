"""What a person reads of an upgrade."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from xproxy.cli.upgrade_progress import Progress, line

GIVEN: dict[str, Any] = {
    "kind": "progress",
    "step": "given",
    "index": 0,
    "generation": 1,
    "moved": {"http2": 1, "http1": 3},
    "refused": {"bolt: no snapshot": 2},
    "left": {},
    "pause_ms": {"p50": 1.25, "p99": 3.0, "max": 8.0},
}


def test_a_line_holds_plain_text() -> None:
    assert line(GIVEN) == (
        "generation 1 worker 0: given: moved 3 http1, 1 http2; refused 2 bolt: no snapshot;"
        " stood still for ms: p50 1.2, p99 3.0, max 8.0"
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
        "; moved 6 http1, 2 http2; refused 4 bolt: no snapshot;"
        " stood still for ms: p50 1.2, p99 9.0, max 9.5"
    )
    assert progress.tried() == "; could move 6 http1, 2 http2; could not 4 bolt: no snapshot"


def test_the_table_has_a_row_for_each_protocol() -> None:
    progress = Progress()
    progress.note({**GIVEN, "step": "giving", "waiting": {"http1": 7}})
    console = Console(width=80, record=True, quiet=False, file=None)
    with console.capture() as capture:
        console.print(progress.table())
    rows = [
        [cell.strip() for cell in row.split("\u2502")[1:-1]] for row in capture.get().splitlines()
    ]
    assert ["http1", "3", "0", "7"] in rows
    assert ["bolt", "0", "2", "0"] in rows
    assert ["http2", "1", "0", "0"] in rows


def test_what_another_version_says_otherwise_is_no_failure() -> None:
    progress = Progress()
    progress.note({"step": "given", "moved": 3})
    progress.note({"step": "given", "moved": {"http1": "many"}, "refused": None, "pause_ms": 3})
    assert progress.summary() == "; moved 0 http1; refused none"
    assert line({"step": "given", "moved": 3, "pause_ms": 3}) == "worker 0: given: moved 3"
