from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xproxy.model.headers import NO_HEADERS, Headers, LazyHeaders

NAMES = st.sampled_from(["a", "A", "b", "x-Y", "X-y", "host"])
FIELDS = st.lists(st.tuples(NAMES, st.sampled_from(["", "1", "2, 3"])), max_size=6)


def model(pairs: list[tuple[str, str]], name: str) -> str | None:
    values = [value for key, value in pairs if key.lower() == name.lower()]
    return ", ".join(values) if values else None


@settings(max_examples=200)
@given(FIELDS, st.lists(FIELDS, max_size=3), st.booleans())
def test_looking_up_means_the_same_however_the_fields_were_added(
    start: list[tuple[str, str]], more: list[list[tuple[str, str]]], look_between: bool
) -> None:
    headers = Headers(start)
    expected = list(start)
    for fields in more:
        if look_between:
            headers.get("a")
        headers = headers.extend(tuple(fields))
        expected += fields
    assert list(headers) == expected
    for name in ("a", "B", "x-y", "host", "none"):
        assert headers.get(name) == model(expected, name)
        assert (name in headers) == (model(expected, name) is not None)
        assert headers.get_all(name) == [v for k, v in expected if k.lower() == name.lower()]
        assert headers.has_any({name.lower()}) == (name in headers)
    assert headers == Headers(expected)
    assert hash(headers) == hash(Headers(expected))
    assert len(headers) == len(expected)


@given(FIELDS, NAMES)
def test_set_leaves_one_field_where_the_first_stood(
    pairs: list[tuple[str, str]], name: str
) -> None:
    changed = Headers(pairs).set(name, "new")
    assert changed.get_all(name) == ["new"]
    others = [pair for pair in pairs if pair[0].lower() != name.lower()]
    assert [pair for pair in changed if pair[0].lower() != name.lower()] == others


@given(FIELDS, NAMES)
def test_remove_takes_every_spelling_and_nothing_else(
    pairs: list[tuple[str, str]], name: str
) -> None:
    headers = Headers(pairs)
    left = headers.remove(name.upper())
    assert list(left) == [pair for pair in pairs if pair[0].lower() != name.lower()]
    assert (left is headers) == (name not in headers)


def test_item_access_raises_for_a_name_that_is_not_there() -> None:
    headers = Headers.of({"A": "1"})
    assert headers["a"] == "1"
    with pytest.raises(KeyError, match="b"):
        headers["b"]


def test_nothing_can_be_looked_up_in_no_headers() -> None:
    assert NO_HEADERS.get("a", "default") == "default"
    assert not NO_HEADERS.has_any({"a"})
    assert "a" not in NO_HEADERS
    assert repr(Headers([("a", "1")])) == "Headers([('a', '1')])"


class Counted(LazyHeaders):
    """Says how often it was asked."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        super().__init__()
        self.found = 0

    def find(self) -> tuple[tuple[str, str], ...]:
        self.found += 1
        return (("A", "1"), ("b", "2"))


@pytest.mark.parametrize(
    "look",
    [
        lambda headers: headers.get("a") == "1",
        lambda headers: len(headers) == 2,
        lambda headers: "B" in headers,
        lambda headers: list(headers) == [("A", "1"), ("b", "2")],
        lambda headers: headers == Headers((("A", "1"), ("b", "2"))),
        lambda headers: headers.add("c", "3").get("c") == "3",
        lambda headers: headers.set("a", "2").pairs == (("A", "2"), ("b", "2")),
        lambda headers: headers.remove("a").pairs == (("b", "2"),),
        lambda headers: hash(headers) == hash(Headers((("A", "1"), ("b", "2")))),
    ],
)
def test_lazy_headers_are_found_once_when_looked_at(look: Callable[[Headers], bool]) -> None:
    headers = Counted()
    assert headers.found == 0
    assert look(headers)
    assert look(headers)
    assert headers.found == 1


def test_lazy_headers_have_no_other_attributes() -> None:
    with pytest.raises(AttributeError):
        _ = Counted().nothing
    with pytest.raises(NotImplementedError):
        len(LazyHeaders())
