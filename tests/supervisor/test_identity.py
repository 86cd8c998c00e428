"""Which code and which interpreter."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from xproxy.supervisor import identity as module
from xproxy.supervisor.identity import identity


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another installation."""
    folder = tmp_path / "supervisor"
    folder.mkdir()
    (tmp_path / "__main__.py").write_text("a = 1\n")
    (folder / "loop.py").write_text("b = 1\n")
    monkeypatch.setattr(module, "_FOLDER", str(folder))
    return folder


def test_it_is_the_same_as_long_as_nothing_changes(folder: Path) -> None:
    assert identity() == identity()
    assert str(folder / "loop.py") in identity()
    (folder / "notes.txt").write_text("no code\n")
    assert "notes" not in identity()


def test_other_code_or_another_interpreter_is_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {identity()}
    (folder / "more.py").write_text("c = 1\n")
    seen.add(identity())
    (folder / "loop.py").write_text("b = 12\n")
    seen.add(identity())
    os.utime(folder.parent / "__main__.py", ns=(1, 1))
    seen.add(identity())
    (folder / "new").write_text("b = 12\n")
    os.replace(folder / "new", folder / "loop.py")  # as an installer does
    seen.add(identity())
    link = folder.parent / "python"
    link.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(link))
    seen.add(identity())
    monkeypatch.setattr(sys, "version", "4")
    seen.add(identity())
    assert len(seen) == 7


def test_where_it_cannot_be_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FOLDER", str(folder / "archive.zip" / "supervisor"))
    assert identity() == ""
