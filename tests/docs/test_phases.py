"""The table of phases in the documentation is the one that the code goes by."""

from __future__ import annotations

from pathlib import Path

from xproxy.connection.phase import TRANSITIONS, Event, Phase

PAGE = Path(__file__).parent.parent.parent / "docs/explanation/life-of-a-connection.md"


def test_the_page_has_the_table_that_the_code_goes_by() -> None:
    lines = PAGE.read_text().splitlines()
    begin = lines.index(
        "| phase | drain | goodbye | end | stop | violation | break | close | seek |"
    )
    heading, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines[begin:]
    ][: 2 + len(Phase)]
    events = [Event(name) for name in heading[1:]]
    assert set(events) == set(Event)
    written = {
        (Phase(row[0]), event): Phase(row[0] if cell == "·" else cell)
        for row in rows[1:]
        for event, cell in zip(events, row[1:], strict=True)
    }
    assert written == TRANSITIONS
