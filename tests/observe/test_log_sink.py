"""Destinations of log lines: what they are before anybody writes; ``test_log_writer`` has the rest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xproxy.observe.log_sink import check_path


def test_a_path_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for good in (str(path), "stdout", "stderr", "/dev/null"):
        check_path(good)
    assert not path.exists()
    path.write_text("x")
    check_path(str(path))
    assert path.read_text() == "x"


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "file").chmod(0o400)
    locked = tmp_path / "locked"
    locked.mkdir(0o500)
    bad = [tmp_path, tmp_path / "no" / "such", tmp_path / "file" / "log"]
    if os.geteuid() != 0:
        bad += [tmp_path / "file", locked / "log"]
    for path in bad:
        with pytest.raises(OSError):
            check_path(str(path))
