"""What other proxies do under the same load: read from the table that the documentation keeps of it."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from bench.tools import HERE

PAGE = HERE.parent / "docs" / "how-to" / "measure-takeover.md"
_BEGIN = "<!-- peers -->"


@attrs.frozen
class Peer:
    """A row of the table."""

    facts: Mapping[str, str]
    """By the heading."""


def read(text: str) -> list[Peer]:
    """Return the rows of the table behind the mark.

    Raises:
        ValueError: there is none.
    """
    _, mark, rest = text.partition(_BEGIN)
    if not mark:
        raise ValueError(f"no {_BEGIN} in the page")
    lines = [line for line in rest.split("\n\n", 1)[0].strip().splitlines() if line[:1] == "|"]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    if len(cells) < 3:
        raise ValueError(f"no table behind {_BEGIN}")
    heads, _, *rows = cells
    return [Peer(dict(zip(heads, row, strict=True))) for row in rows]


def peers() -> list[Peer]:
    """Return what the documentation says."""
    return read(PAGE.read_text())
