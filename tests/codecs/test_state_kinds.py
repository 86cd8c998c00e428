"""Every kind of value comes back as it was written, and refuses all others in words that say why."""

from __future__ import annotations

import enum
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.codecs.state_kinds import (
    FLAG,
    Kind,
    amount,
    choice,
    mapping,
    number,
    octets,
    sequence,
    text,
)


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


SHORT = number(0, 7)
KINDS: list[tuple[Kind[object], object]] = [
    (cast("Kind[object]", kind), value)  # each only meets values of its own
    for kind, value in (
        (FLAG, True),
        (SHORT, 7),
        (number(-(2**63), 2**64 - 1), -(2**63)),
        (octets(3), b"abc"),
        (amount(2.5), 2.5),
        (text(3), "abc"),
        (choice(Colour), Colour.GREEN),
        (choice((Colour.RED,)), Colour.RED),
        (sequence(SHORT, 2), [1, 2]),
        (sequence(choice(Colour), 2), [Colour.RED]),
        (mapping(SHORT, FLAG, 2), {7: True, 1: False}),
        (mapping(choice(Colour), SHORT, 2), {Colour.RED: 1}),
    )
]


@pytest.mark.parametrize(("kind", "value"), KINDS, ids=str)
def test_a_value_comes_back(kind: Kind[object], value: object) -> None:
    written = value if kind.write is None else kind.write(value)
    assert isinstance(written, bool | int | float | str | bytes | list | dict)
    assert kind.read(written) == value


@pytest.mark.parametrize(
    ("kind", "found", "why"),
    [
        (FLAG, 1, "is no bool"),
        (amount(2.5), 1, "is no finite float"),
        (amount(2.5), float("nan"), "is no finite float"),
        (amount(2.5), float("inf"), "is no finite float"),
        (amount(2.5), -0.5, "is -0.5, not 0 … 2.5"),
        (amount(2.5), 2.6, "is 2.6, not 0 … 2.5"),
        (SHORT, True, "is no number"),
        (SHORT, "1", "is no number"),
        (SHORT, -1, "is -1, not 0 … 7"),
        (SHORT, 8, "is 8, not 0 … 7"),
        (octets(3), "abc", "is no bytes"),
        (octets(3), b"abcd", "is 4 bytes, limit 3"),
        (text(3), b"abc", "is no text"),
        (text(3), "abcd", "is 4 characters, limit 3"),
        (choice(Colour), "blue", "is none of 'red', 'green'"),
        (choice((Colour.RED,)), "green", "is none of 'red'"),
        (choice(Colour), [], "is none of"),
        (sequence(SHORT, 2), {}, "is no list"),
        (sequence(SHORT, 2), [1, 2, 3], "has 3 items, limit 2"),
        (sequence(SHORT, 2), [1, 9], "has an item that is 9"),
        (mapping(SHORT, FLAG, 2), [], "is no map"),
        (mapping(SHORT, FLAG, 2), {1: True, 2: True, 3: True}, "has 3 items, limit 2"),
        (mapping(SHORT, FLAG, 2), {9: True}, "has an item that is 9"),
        (mapping(SHORT, FLAG, 2), {1: 1}, "has an item that is no bool"),
    ],
)
def test_another_value_is_refused(kind: Kind[object], found: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        kind.read(found)


_values: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.integers() | st.text(), inner),
    max_leaves=5,
)


@given(st.sampled_from([kind for kind, _ in KINDS]), _values)
def test_no_value_raises_anything_else(kind: Kind[object], found: object) -> None:
    try:
        kind.read(found)
    except ValueError as exc:
        message = str(exc)
    else:
        return
    assert message.startswith(("is ", "has "))
