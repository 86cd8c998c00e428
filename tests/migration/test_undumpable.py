"""Nobody looks into the process meanwhile."""

from __future__ import annotations

from pathlib import Path

from xproxy.migration.undumpable import _PR_GET_DUMPABLE, _prctl, undumpable


def test_it_cannot_be_dumped_meanwhile() -> None:
    assert _prctl(_PR_GET_DUMPABLE, 0) == 1
    with undumpable():
        assert _prctl(_PR_GET_DUMPABLE, 0) == 0
        with undumpable():
            assert _prctl(_PR_GET_DUMPABLE, 0) == 0
        assert _prctl(_PR_GET_DUMPABLE, 0) == 0
    assert _prctl(_PR_GET_DUMPABLE, 0) == 1
    assert Path("/proc/self/status").exists()
