"""Where control sockets are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xproxy.supervisor.control_path import MOST_BYTES, NoPlace, find, folders, is_safe, place_for

ME = os.geteuid()


@pytest.fixture
def here(tmp_path: Path) -> dict[str, str]:
    return {"XDG_RUNTIME_DIR": str(tmp_path / "run"), "TMPDIR": str(tmp_path)}


def test_the_users_own_folder_is_best(here: dict[str, str], tmp_path: Path) -> None:
    assert list(folders(here, 7)) == [
        f"{tmp_path}/run/xproxy",
        "/run/xproxy",
        f"{tmp_path}/xproxy-7",
    ]
    assert list(folders({}, 7)) == ["/run/xproxy", "/tmp/xproxy-7"]
    (tmp_path / "run").mkdir()
    path = place_for(12, here, ME)
    assert path == f"{tmp_path}/run/xproxy/12.sock"
    assert os.stat(os.path.dirname(path)).st_mode & 0o777 == 0o700
    Path(path).touch()
    (tmp_path / "run/xproxy/readme").touch()
    assert find(here, ME)[12] == path


def test_a_folder_that_others_could_use_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "xproxy"
    folder.mkdir(0o700)
    assert is_safe(str(folder), ME)
    assert not is_safe(str(folder), ME + 1)
    folder.chmod(0o710)
    assert not is_safe(str(folder), ME)
    link = tmp_path / "link"
    folder.chmod(0o700)
    link.symlink_to(folder)
    assert not is_safe(str(link), ME), "whoever owns the link may point it elsewhere"
    assert not is_safe(str(tmp_path / "none"), ME)


def test_there_is_no_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    long = {"XDG_RUNTIME_DIR": "/" + "x" * MOST_BYTES, "TMPDIR": str(tmp_path)}
    (tmp_path / f"xproxy-{ME + 1}").mkdir(0o700)
    with pytest.raises(NoPlace, match="ours alone"):
        place_for(1, long, ME + 1)
