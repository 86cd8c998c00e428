"""What pages point at is there: links, anchors, source files, classes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.docs.pages import PAGES, ROOT, blocks, name_of
from tests.docs.player import check_words
from tests.docs.tables import code, table
from xproxy.testing import RULES

_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
_CODE: Final = re.compile(r"`([^`\n]+)`")
_PATH: Final = re.compile(r"(?:xproxy|plugins|tests|fuzz|bench|docs|examples)/[\w./-]*")
_CLASS: Final = re.compile(r"(?:[A-Z]+[a-z0-9]+){1,}[A-Z]*[a-z]*")
_FENCED: Final = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)

_NOT_OURS: Final = frozenset(
    {
        "ValueError",
        "LookupError",
        "UnicodeDecodeError",
        "BaseException",
        "ExceptionGroup",
        "SofaRequest",
    }
)


def _prose(page: Path) -> str:
    return _FENCED.sub("", page.read_text("utf-8"))


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _classes() -> Iterator[str]:
    for path in (ROOT / "xproxy").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                yield node.name
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                yield node.target.id


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(_prose(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_source_files_that_are_named_exist(page: Path) -> None:
    named = [text for text in _CODE.findall(_prose(page)) if _PATH.fullmatch(text)]
    # What is made when it is needed, and not committed.
    made = {"fuzz/crashes/", "bench/.build"}
    assert [text for text in named if not (ROOT / text).exists() and text not in made] == []


def test_classes_that_are_named_exist() -> None:
    known = {*_classes()} | _NOT_OURS
    for page in PAGES:
        named = {text for text in _CODE.findall(_prose(page)) if _CLASS.fullmatch(text)}
        words = {text for text in named if sum(map(str.isupper, text)) > 1}
        assert words <= known, f"{name_of(page)}: {sorted(words - known)}"


def test_blocks_say_what_they_are_for() -> None:
    for page in PAGES:
        for block in blocks(page):
            check_words(block)


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link).resolve() for link in _LINK.findall(index.read_text("utf-8"))}
    pages = {page for page in (ROOT / "docs").rglob("*.md") if page != index}
    assert pages <= linked


def test_every_rule_of_check_codec_is_explained() -> None:
    page = ROOT / "docs" / "how-to" / "write-a-codec.md"
    explained = [code(row[0]) for row in table(page, "rule", "what holds")]
    assert sorted(explained) == sorted(["first-words", *RULES])
