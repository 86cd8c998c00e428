"""Each source file has its test file: ``tests/x/test_y.py`` for ``xproxy/x/y.py``; none is astray.

(idea: mitmproxy:test/filename_matching.py)
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT = Path(__file__).parent.parent

UNTESTED: Final = {
    "xproxy/__main__.py": "a few lines; every test of a real process runs them",
    "xproxy/api.py": "re-exports; the plugins' tests import nothing else",
}
"""Source files without a test file of their own, with the reason. ``__init__.py`` only re-exports."""

OF_THE_WHOLE: Final = {
    "conftest.py",
    "test_floors.py",
    "test_imports_alone.py",
    "test_mirror.py",
    "test_protocol_names.py",
    "test_fuzz.py",
}
"""Tests of the tree and not of one module."""

BY_TOPIC: Final = {"process", "interop", "bench", "docs", "migration"}
"""Folders of tests that look at the product from outside: processes, real clients, figures, documents, moves."""


def sources() -> list[Path]:
    """Return the source files that need a test, relative to the root."""
    found = (path.relative_to(ROOT) for path in sorted((ROOT / "xproxy").rglob("*.py")))
    return [p for p in found if p.name != "__init__.py" and p.as_posix() not in UNTESTED]


def mirror_of(source: Path) -> Path:
    """Return where the tests of ``source`` are."""
    inside = source.relative_to("xproxy")
    return Path("tests") / inside.parent / f"test_{inside.name}"


def test_each_source_file_has_its_test_file() -> None:
    missing = [
        f"{source} has no {mirror_of(source)}"
        for source in sources()
        if not (ROOT / mirror_of(source)).is_file()
    ]
    assert not missing, "\n".join(missing)


def test_each_exception_still_exists() -> None:
    gone = [name for name in UNTESTED if not (ROOT / name).is_file()]
    assert not gone, f"listed in UNTESTED, but not there: {gone}"
    tested = [name for name in UNTESTED if (ROOT / mirror_of(Path(name))).is_file()]
    assert not tested, f"listed in UNTESTED, but tested: {tested}"


def test_no_test_file_is_astray() -> None:
    known = {mirror_of(source) for source in sources()}
    astray = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        inside = path.relative_to(ROOT / "tests")
        if inside.parts[0] in BY_TOPIC or inside.as_posix() in OF_THE_WHOLE:
            continue
        if path.relative_to(ROOT) in known or _tests_a_package(inside):
            continue
        astray.append(str(inside))
    assert not astray, f"no source file is tested by: {', '.join(astray)}"


def _tests_a_package(inside: Path) -> bool:
    """Tell whether the file tests a folder as a whole: its conformance, its vectors, its corners."""
    return (ROOT / "xproxy" / inside.parent).is_dir() and len(inside.parts) > 1
