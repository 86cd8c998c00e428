from __future__ import annotations

from pathlib import Path

import pytest

from xproxy.model.limits import MIB
from xproxy.proxy.memory import (
    SHARE_PERCENT,
    default_held_bytes,
    give_back,
    give_back_freed_memory,
    memory_limit,
)


def groups(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("own", "files"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "5242880\n", "memory.max": "max\n"}),
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "5242880\n"}),
        ("0::/../elsewhere\n", {"memory.max": "5242880\n"}),
        (
            "3:cpu:/x\n5:memory:/docker/1\n",
            {"memory/docker/1/memory.limit_in_bytes": "5242880\n"},
        ),
        ("5:memory:/docker/1\n", {"memory/memory.limit_in_bytes": "5242880\n"}),
    ],
    ids=["v2", "v2-above", "v2-container", "v1", "v1-container"],
)
def test_the_control_groups_limit_counts(own: str, files: dict[str, str], tmp_path: Path) -> None:
    said = tmp_path / "cgroup"
    said.write_text(own)
    assert memory_limit(groups(tmp_path / "fs", files), said) == 5 * MIB


def test_without_one_it_is_the_machines(tmp_path: Path) -> None:
    whole = memory_limit(tmp_path, tmp_path / "none")
    assert whole > 64 * MIB
    said = tmp_path / "cgroup"
    said.write_text("0::/\n")
    assert memory_limit(groups(tmp_path, {"memory.max": "max\n"}), said) == whole


def test_the_default_is_a_share() -> None:
    assert default_held_bytes() == memory_limit() // 100 * SHARE_PERCENT


def test_malloc_can_be_told() -> None:
    give_back_freed_memory()
    give_back()
