"""The tables of a page, as rows of plain text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

Row = Sequence[str]


def tables(page: Path) -> Iterator[tuple[Row, list[Row]]]:
    """Give each table: its head, and its rows."""
    rows: list[Row] = []
    for line in [*page.read_text("utf-8").splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            yield rows[0], rows[2:]
            rows = []


def table(page: Path, *head: str) -> list[Row]:
    """Return the rows of every table with this head."""
    return [row for found, rows in tables(page) for row in rows if tuple(found) == head]


def code(cell: str) -> str:
    """Return what stands between the cell's first backticks."""
    return cell.split("`")[1]
