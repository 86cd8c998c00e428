"""Kinds of values."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from xproxy.config.kinds import accepts, describe, enum_labels, unexpected
from xproxy.config.schema import EndpointConfig, LimitsConfig, StringMatch
from xproxy.model.address import Address
from xproxy.model.limits import Duration, Size
from xproxy.model.status import Status
from xproxy.model.traits import Sharing


@pytest.mark.parametrize(
    ("type_", "words"),
    [
        (int, "a whole number"),
        (Duration, "a duration (250ms, 3s, 5m, 1h or 0)"),
        (str | None, "text or nothing"),
        (Literal["a", "b", False], "a or b or false"),
        (tuple[str, ...], "a list"),
        (frozenset[int], "a list"),
        (dict[str, int], "a mapping"),
        (StringMatch, "text or a mapping"),
        (LimitsConfig, "a mapping"),
        (Sharing, "serial or messages or frames"),
        (complex, "a value"),
        (Any, "anything"),
    ],
)
def test_describe(type_: object, words: str) -> None:
    assert describe(type_) == words


def test_labels() -> None:
    assert enum_labels(Status)[4] == "deadline-exceeded"
    assert enum_labels(Sharing) == ["serial", "messages", "frames"]


@pytest.mark.parametrize(
    ("type_", "value", "yes"),
    [
        (int, 1, True),
        (int, True, False),
        (float, 1, True),
        (Size, 1.5, False),
        (Duration, 1.5, True),
        (Address, "x", True),
        (EndpointConfig, "x", True),
        (EndpointConfig, [], False),
        (tuple[str, ...], "x", True),
        (tuple[EndpointConfig, ...], "x", False),
        (int | None, None, True),
        (Literal[True], False, True),
        (Status, "ok", True),
        (dict[str, int], {}, True),
        (object, None, True),
        (complex, 1, False),
    ],
)
def test_accepts(type_: object, value: object, yes: bool) -> None:
    assert accepts(type_, value) is yes


def test_numbers_for_texts_are_told_to_be_quoted() -> None:
    assert unexpected(str, 1).suggestion == '"1"'
    assert unexpected(str, True).suggestion == '"true"'
    assert unexpected(int, "1").suggestion == ""
