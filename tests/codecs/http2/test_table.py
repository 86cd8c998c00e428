"""Tables as values: the same additions and evictions as `hpack`'s own, and nothing ever changes."""

from __future__ import annotations

import hypothesis.strategies as st
from hpack.table import HeaderTable
from hypothesis import given, settings

from xproxy.codecs.http2.table import (
    FIRST_DYNAMIC,
    STATIC,
    STATIC_FIELDS,
    STATIC_NAMES,
    Change,
    Secret,
    Table,
    size_of,
)


def test_the_static_table() -> None:
    """RFC 7541 appendix A."""
    assert len(STATIC) == 61
    assert FIRST_DYNAMIC == 62
    assert STATIC[1] == (":method", "GET")
    assert STATIC_FIELDS[":method", "POST"] == 3
    assert STATIC_NAMES[":method"] == 2
    assert STATIC_NAMES["www-authenticate"] == 61


def test_sizes() -> None:
    """§4.1."""
    assert size_of(("ab", "cde")) == 37
    assert Table((("ab", "cde"), ("f", "")), 4096).size == 37 + 33


def test_look_ups_find_the_newest() -> None:
    table = Table((("a", "2"), ("a", "1"), ("a", "2")), 4096)
    assert table.fields == {("a", "2"): 0, ("a", "1"): 1}
    assert table.names == {"a": 0}


def test_a_secret_is_its_text() -> None:
    assert Secret("x") == "x"
    assert type(Secret("x")) is not str


pairs = st.tuples(st.sampled_from(["a", "bb", "ccc"]), st.text("xyz", max_size=60))
steps = st.lists(st.one_of(pairs, st.integers(0, 400)), max_size=25)


@given(steps)
@settings(max_examples=200, deadline=None)
def test_changes_are_hpacks(done: list[tuple[str, str] | int]) -> None:
    """§4."""
    theirs, base = HeaderTable(), Table((), 4096)
    change = Change(base)
    for step in done:
        if isinstance(step, int):
            theirs.maxsize = step
            change.resize(step)
        else:
            theirs.add(step[0].encode(), step[1].encode())
            change.add(step)
        entries = [(n.decode(), v.decode()) for n, v in theirs.dynamic_entries]
        assert list(change.result().entries) == entries
        assert change.size == change.result().size
        assert [change.get(i) for i in range(len(entries))] == entries
        assert change.get(len(entries)) is None
    assert base.entries == ()
    table = change.result()
    assert table.resized(table.maximum).entries == table.entries


def test_a_change_that_leads_back_is_no_change() -> None:
    """A peer that adds the same fields to a full table, message after message, stays on one table."""
    pair = ("a", "b" * 27)
    change = Change(Table((), 240))
    for _ in range(5):
        change.add(pair)
    full = change.result()
    again = Change(full)
    again.add(pair)
    assert again.result() is full
    other = Change(full)
    other.add(("a", "c" * 27))
    assert other.result() is not full
    narrow = Change(full)
    narrow.resize(239)
    assert narrow.result().maximum == 239
