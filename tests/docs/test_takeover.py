"""The diagrams of a takeover in the documentation are what the code goes by; so are its messages and bounds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import TypeVar

import pytest

from tests.docs.pages import ROOT
from tests.docs.tables import table
from xproxy.migration import giving, messages, taking

S = TypeVar("S", bound=Enum)
E = TypeVar("E", bound=Enum)

PAGE = ROOT / "docs" / "explanation" / "takeover.md"
ARROW = re.compile(r"    (\w+) --> (\w+): (.+)")


def diagrams() -> Iterator[dict[tuple[str, str], str]]:
    for drawn in PAGE.read_text().split("```mermaid\n")[1:]:
        found: dict[tuple[str, str], str] = {}
        first, *lines = drawn.partition("```")[0].splitlines()
        assert first == "stateDiagram-v2"
        for line in lines:
            arrow = ARROW.fullmatch(line)
            assert arrow is not None, line
            before, after, events = arrow.groups()
            for event in events.split(", "):
                assert (before, event) not in found, f"drawn twice: {line}"
                found[before, event] = after
        yield found


def plain(transitions: Mapping[tuple[S, E], S]) -> dict[tuple[str, str], str]:
    return {
        (state.value, event.value): after.value for (state, event), after in transitions.items()
    }


def test_the_diagrams_are_what_the_code_goes_by() -> None:
    old, new = diagrams()
    assert old == plain(giving.TRANSITIONS)
    assert new == plain(taking.TRANSITIONS)


def test_every_message_has_its_row() -> None:
    rows = [row[0].split()[0] for row in table(PAGE, "message", "from", "says")]
    assert sorted(rows) == sorted(cls.__name__.upper() for _, cls, _ in messages._RECORDS)


@pytest.mark.parametrize(
    "text",
    [
        f"At most {giving.WINDOW} offers are out",
        f"After the first {giving.CANARIES} were taken",
        f"not ready in {giving.READY_WITHIN:g} s",
        f"an offer in {giving.STALL:g} s",
    ],
)
def test_bounds_are_those_of_the_code(text: str) -> None:
    assert text in PAGE.read_text()
