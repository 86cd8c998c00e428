"""The pages and their fenced blocks. Behind a fence stands the language, and then what the block is for::

sh              run in the page's shell, in the page's own folder; every command must succeed
sh fails        the last command must not succeed
sh root         run in the root of the checkout; ``make X`` is only tried (``make -n X``)
sh setup        what a reader does once: known to be right, not run (``pip install -e .`` is played)
text output     what the block before prints; ``…`` stands for anything
yaml            a whole configuration; ``part`` of one; ``broken``: must be refused
python          run by itself
… file=NAME     also written to the page's folder
text            not looked at
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = (
    ROOT / "README.md",
    *(p for p in sorted((ROOT / "docs").rglob("*.md")) if p.parent.name != "reference"),
)

WORDS: Final = {
    "sh": {"fails", "root", "setup"},
    "yaml": {"part", "broken"},
    "python": set[str](),
    "toml": set[str](),
    "json": set[str](),
    "text": {"output"},
    "mermaid": set[str](),
}
"""Each language with the words that may follow it, beside ``file=NAME``."""

_FENCE: Final = re.compile(r"^```(?P<info>[^`\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@attrs.frozen(kw_only=True)
class Block:
    """One fenced block."""

    page: Path
    line: int
    """Of the fence, from 1."""
    language: str
    words: frozenset[str]
    file: str | None
    """Where its text is written, in the page's folder."""
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Give the blocks of a page, in order."""
    text = page.read_text("utf-8")
    for match in _FENCE.finditer(text):
        language, *words = match["info"].split() or [""]
        files = [word[5:] for word in words if word.startswith("file=")]
        yield Block(
            page=page,
            line=text.count("\n", 0, match.start()) + 1,
            language=language,
            words=frozenset(word for word in words if not word.startswith("file=")),
            file=files[0] if files else None,
            text=match["text"],
        )


def name_of(page: Path) -> str:
    """Return the page's path as people write it."""
    return page.relative_to(ROOT).as_posix()
