from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.observe.histogram import Histogram
from xproxy.observe.totals import (
    MOST,
    MOST_FIELDS,
    MOST_LABELS,
    MOST_PLACES,
    Totals,
    Value,
    grown,
    plus,
    totals_kind,
)

PLACE = ("cluster", "web")


def histogram(*values: float, bounds: tuple[float, ...] = (1.0, 2.0)) -> Histogram:
    found = Histogram(bounds)
    for value in values:
        found.observe(value)
    return found


def totals(**fields: Value) -> Totals:
    found = Totals()
    for field, value in fields.items():
        found.put(PLACE, field, value)
    return found


COUNTS = st.integers(0, 1000)
VALUES = st.one_of(
    COUNTS,
    st.dictionaries(st.sampled_from("abc"), st.integers(1, 9)),
    st.lists(st.integers(0, 3)).map(lambda values: histogram(*values)),
)


@given(VALUES, VALUES)
def test_what_has_grown_is_what_was_added(one: Value, more: Value) -> None:
    both = totals(n=one)
    both.add(totals(n=more))
    sum_ = both.of(PLACE)["n"]
    assert sum_ == plus(one, more)
    added = grown(sum_, one)
    assert (one if added is None else plus(one, added)) == sum_
    assert grown(one, None) in (None, one)


@given(st.dictionaries(st.tuples(st.text(max_size=4), st.text(max_size=4)), VALUES))
def test_what_is_written_is_read_again(values: dict[tuple[str, str], Value]) -> None:
    found = Totals()
    for place, value in values.items():
        found.put(place, "n", value)
    kind = totals_kind(0)
    assert kind.write is not None
    assert kind.read(kind.write(found)) == found
    assert len(found) == len(values)


def test_what_shrank_has_not_grown() -> None:
    assert grown(4, 5) is None
    assert grown({"x": 1, "y": 3}, {"x": 2, "y": 1}) == {"y": 2}
    assert grown(histogram(1.0), histogram(1.0, 1.0)) is None


def test_a_copy_is_not_shared() -> None:
    mine: dict[str, int] = {"x": 1}
    copied = Totals()
    copied.add(totals(labels=mine, time=histogram(1.0)))
    mine["x"] = 7
    assert copied == totals(labels={"x": 1}, time=histogram(1.0))


def test_other_shapes_are_passed_over() -> None:
    assert plus(1, {"x": 1}) == 1
    assert plus({"x": 1}, 1) == {"x": 1}
    assert plus(histogram(1.0), histogram(1.0, bounds=(1.0,))) == histogram(1.0)


def test_everything_has_a_bound() -> None:
    assert plus(MOST, 1) == MOST
    many = {str(n): 1 for n in range(MOST_LABELS)}
    assert plus(many, {"one more": 1, "0": 1}) == many | {"0": 2}
    found = Totals()
    for number in range(MOST_FIELDS + 1):
        found.put(PLACE, str(number), 1)
    assert len(found.of(PLACE)) == MOST_FIELDS
    for number in range(MOST_PLACES):
        found.put(("many", str(number)), "n", 1)
    assert len(found) == MOST_PLACES
    found.drop(PLACE)
    found.drop(PLACE)
    assert len(found) == MOST_PLACES - 1


@pytest.mark.parametrize(
    ("written", "why"),
    [
        (7, "is no list"),
        ([7], "a place that is none"),
        ([["a", "b"]], "a place that is none"),
        ([[7, "b", {}]], "is no text"),
        ([["a", "b", {"n": 1}], ["a", "b", {"n": 1}]], "a place twice"),
        ([["a", "b", {"n": -1}]], "is -1, not 0 …"),
        ([["a", "b", {"n": MOST + 1}]], "not 0 …"),
        ([["a", "b", {"n": True}]], "is no number"),
        ([["a", "b", {"n": 1.5}]], "is no number"),
        ([["a", "b", {"n": {"x": -1}}]], "not 0 …"),
        ([["a", "b", {"n": {7: 1}}]], "is no text"),
        ([["a", "b", {"n": [[1.0], [1, 2]]}]], "is no histogram"),
        ([["a", "b", {"n": [[1.0], [1], 1.0]}]], "1 buckets, not 2"),
        ([["a", "b", {"n": [[1.0, 1.0], [1, 1, 1], 1.0]}]], "must rise"),
        ([["a", "b", {"n": [[], [1], 1.0]}]], "must rise"),
        ([["a", "b", {"n": [[1.0], [1, 2], math.nan]}]], "is no finite float"),
        ([["a", "b", {"n": [[math.inf], [1, 2], 1.0]}]], "is no finite float"),
        ([["a", "b", {str(n): 1 for n in range(MOST_FIELDS + 1)}]], "limit"),
        ([["a", "b" * 5000, {}]], "limit"),
    ],
)
def test_anything_else_is_refused(written: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        totals_kind(0).read(written)
