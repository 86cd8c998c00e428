from __future__ import annotations

import pytest

from bench import procfs
from bench.procfs import ProcessStat


def _stat(pid: int, parent: int, own: int = 0, reaped: int = 0) -> ProcessStat:
    return ProcessStat(pid=pid, parent=parent, own_ticks=own, reaped_ticks=reaped)


def test_a_command_name_may_hold_blanks_and_brackets() -> None:
    line = "4321 (worker (1) x) S 77 4321 4321 0 -1 4194560 1 2 0 0 250 31 7 2 20 0 9 0 123 1 1\n"

    assert procfs.parse_process_stat(line) == _stat(4321, 77, own=281, reaped=9)


def test_busy_time_leaves_out_idle_waiting_and_guests() -> None:
    text = "cpu  100 2 30 9999 888 4 5 6 70 7\ncpu0 1 1 1 1 1 1 1 1 0 0\n"

    assert procfs.parse_busy_ticks(text) == 100 + 2 + 30 + 4 + 5 + 6


def test_resident_size_is_read_by_name() -> None:
    rollup = "55d0-7ffc ---p 00000000 00:00 0 [rollup]\nRss:              5120 kB\nPss:  12 kB\n"

    assert procfs.parse_rss_kib(rollup) == 5120
    with pytest.raises(ValueError, match="Rss"):
        procfs.parse_rss_kib("Pss: 12 kB\n")


def test_a_tree_holds_grandchildren_and_nobody_else() -> None:
    stats = [_stat(1, 0), _stat(30, 20), _stat(10, 1), _stat(20, 10), _stat(11, 1)]

    assert {stat.pid for stat in procfs.descendants(10, stats)} == {10, 20, 30}
    assert procfs.descendants(99, stats) == []


def test_time_of_a_child_that_ends_stays_with_the_tree() -> None:
    before = [_stat(10, 1, own=5), _stat(20, 10, own=7)]
    after = [_stat(10, 1, own=5, reaped=7)]

    assert procfs.cpu_ticks(before) == procfs.cpu_ticks(after) == 12
