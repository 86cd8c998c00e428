"""The page of meanings and defaults names a test for each: the tests are there."""

from __future__ import annotations

import re

from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "reference" / "governance.md"


def test_each_test_that_the_page_names_is_there() -> None:
    """It may shorten a path to ``…/test_levels.py::test_that``, and a path named just before to ``…::test_this``."""
    sources = {path: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    missing = []
    named = re.findall(r"`([^`\s]*\btest_\w+[^`\s]*)`", PAGE.read_text())
    for one in named:
        place, _, test = one.rpartition("::") if "::" in one else (one, "", "")
        if not place.endswith(".py"):
            place = ".py"  # of any file
        end = place.removeprefix("…")
        wanted = re.compile(rf"def {test.partition('[')[0].rstrip('…')}")
        found = [
            text for path, text in sources.items() if f"/{path.relative_to(ROOT)}".endswith(end)
        ]
        if not any(wanted.search(text) for text in found):
            missing.append(one)
    assert len(named) > 80
    assert missing == []
