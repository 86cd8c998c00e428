"""One codec's folder looks like the next one's: who knows one of them finds their way in all."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from xproxy.registry import CODECS, default_registry

FOLDER: Final = Path(__file__).resolve().parents[2] / "xproxy" / "codecs"
FILES: Final = frozenset({"plugin", "codec", "status", "wire", "state", "snapshot"})
LEFT_OUT: Final = {
    "opaque": {"wire": "its bytes have no form"},
    "bolt": {
        "state": "codecs/messages.py has it for every protocol of messages",
        "snapshot": "codecs/message_state.py, likewise",
    },
    "dubbo": {
        "state": "codecs/messages.py has it for every protocol of messages",
        "snapshot": "codecs/message_state.py, likewise",
    },
}
"""What a codec has no use for, with the reason."""


def built_in() -> list[str]:
    entries = default_registry().entries(CODECS)
    return [e.name for e in entries if e.module.startswith("xproxy.codecs.")]


@pytest.mark.parametrize("name", built_in())
def test_a_codec_has_the_same_files_as_the_others(name: str) -> None:
    there = {path.stem for path in (FOLDER / name).glob("*.py")}
    missing = FILES - there
    assert missing == set(LEFT_OUT.get(name, {}))


def test_no_codec_builds_on_another_one() -> None:
    """What two of them need stands beside the folders."""
    guilty = []
    for name in built_in():
        for path in (FOLDER / name).glob("*.py"):
            text = path.read_text()
            others = [n for n in built_in() if n != name and f"xproxy.codecs.{n}." in text]
            guilty += [f"{path.parent.name}/{path.name} imports from {n}/" for n in others]
    assert not guilty
