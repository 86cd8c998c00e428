"""The tables of HTTP/2's options and of a stream's states say what the code does."""

from __future__ import annotations

import attrs
import pytest

from tests.docs.pages import ROOT
from tests.docs.tables import Row, code, table
from xproxy.codecs.http2.limits import Http2Limits
from xproxy.codecs.http2.state import TRANSITIONS, Event, State
from xproxy.config.units import format_duration, format_size

PAGE = ROOT / "docs" / "protocols" / "http2.md"
ROWS = table(PAGE, "option", "default", "beyond it")
ELSEWHERE = {"extended_connect"}
"""Options that bound nothing; the text says what they do."""


def test_every_option_has_its_row() -> None:
    options = {field.name for field in attrs.fields(Http2Limits)}
    assert {code(row[0]) for row in ROWS} == options - ELSEWHERE
    assert all(f"`{name}`" in PAGE.read_text("utf-8") for name in ELSEWHERE)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: code(row[0]))
def test_a_default_is_what_the_code_says(row: Row) -> None:
    field = attrs.fields_dict(Http2Limits)[code(row[0])]
    if field.default is None:  # as another limit says
        assert row[1] == "`max_streams`"
    elif "Size" in str(field.type):
        assert row[1] == format_size(field.default)
    elif "Duration" in str(field.type):
        assert row[1] == format_duration(field.default)
    else:
        assert row[1] == str(field.default)


def test_the_states_of_a_stream_are_drawn_as_they_are() -> None:
    drawn = [
        [
            event.value,
            *[
                f"`{outcome.name}`" if isinstance(outcome, State) else outcome.value
                for outcome in [TRANSITIONS[state, event] for state in State]
            ],
        ]
        for event in Event
    ]
    assert table(PAGE, "", *[f"`{state.name}`" for state in State]) == drawn
