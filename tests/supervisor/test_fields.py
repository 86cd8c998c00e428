"""Plain values that another version has written."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from xproxy.supervisor.fields import Fields


def test_what_is_right_is_returned() -> None:
    fields = Fields(
        {
            "name": "edge",
            "port": 0,
            "left": 0.5,
            "on": False,
            "none": None,
            "inner": {"a": 1},
            "many": [{"a": 2}],
            "texts": ["x"],
            "numbers": [3],
            "named": {"a": "b"},
            "numbered": {"4": 5},
        },
        "it",
    )
    assert fields.text("name") == "edge"
    assert fields.number("port") == 0
    assert (fields.seconds("left"), fields.seconds("port")) == (0.5, 0.0)
    assert fields.flag("on") is False
    assert "none" not in fields
    assert "gone" not in fields
    assert "on" in fields
    assert fields.inner("inner").number("a") == 1
    assert [one.number("a") for one in fields.objects("many")] == [2]
    assert (fields.texts("texts"), fields.numbers("numbers")) == (["x"], [3])
    assert (fields.by_name("named"), fields.by_number("numbered")) == ({"a": "b"}, {4: 5})
    assert fields.counts("inner") == {"a": 1}
    assert fields.plain("inner") == {"a": 1}


@pytest.mark.parametrize(
    ("read", "wrong"),
    [
        (Fields.number, [None, True, -1, 1.5, "1", [], {}]),
        (Fields.by_number, [None, [], 1, {"a": 1}, {"1": None}, {"1": -1}]),
        (Fields.text, [None, 1, b""]),
        (Fields.seconds, [None, True, -0.1, math.nan, "1"]),
        (Fields.flag, [None, 0, "true"]),
        (Fields.inner, [None, [], 1]),
        (Fields.objects, [None, {}, [1]]),
        (Fields.texts, [None, "ab", [1], ["a", None]]),
        (Fields.numbers, [None, 1, [True], [-1], ["1"]]),
        (Fields.by_name, [None, [], {"a": 1}]),
        (Fields.counts, [None, {"a": -1}]),
        (Fields.plain, [None, []]),
    ],
)
def test_the_wrong_kind(read: Callable[[Fields, str], object], wrong: list[object]) -> None:
    for value in wrong:
        with pytest.raises(ValueError, match=r"^it\.x"):
            read(Fields({"x": value}, "it"), "x")
    with pytest.raises(ValueError, match=r"^it\.x"):
        read(Fields({}, "it"), "x")


def test_no_object_at_all() -> None:
    with pytest.raises(ValueError, match="it is no object"):
        Fields([], "it")
