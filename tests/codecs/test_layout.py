from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.codecs.layout import Layout, read_sized, read_varint, write_sized, write_varint
from xproxy.codecs.message_wire import Malformed

LAYOUTS = {
    "whole size first": {"size": "I=total", "n": "B", "a": "*"},
    "rest, less four": {"n": "B", "size": "I=rest-4", "fixed": "4s", "a": "*"},
    "own size included": {"n": "B", "size": "H=a+2", "a": "*"},
    "in words": {"size": "I=rest", "words": "H=a/4", "a": "*", "n": "B", "b": "*"},
    "several parts": {"n": "varint", "a": "I*", "b": "varint*", "c": "H*"},
    "varint": {"size": "varint=rest", "n": "varint", "a": "*"},
}


def values_for(fields: dict[str, str], number: int, data: bytes) -> dict[str, int | bytes]:
    values: dict[str, int | bytes] = {}
    for name, text in fields.items():
        if "=" in text:
            continue
        values[name] = data if "*" in text else number if name == "n" else b"four"
    return values


@pytest.mark.parametrize("name", LAYOUTS)
@given(number=st.integers(0, 255), words=st.binary(max_size=200), more=st.binary(max_size=9))
def test_what_is_written_is_read_however_much_is_there(
    name: str, number: int, words: bytes, more: bytes
) -> None:
    fields = LAYOUTS[name]
    layout = Layout(fields, ">")
    values = values_for(fields, number, words * 4)
    wire = layout.write(values)
    assert layout.read(wire + more, 0, len(wire) + len(more), 10_000) == (values, len(wire))
    held = 0
    while held < len(wire):
        needed = layout.read(wire[:held], 0, held, 10_000)
        assert isinstance(needed, int)
        assert held < needed <= len(wire)
        held = needed
    # Behind other messages, too.
    assert layout.read(more + wire, len(more), len(more + wire), 10_000) == (values, len(wire))


@pytest.mark.parametrize("name", LAYOUTS)
@given(data=st.binary(max_size=60))
def test_any_bytes_are_values_or_malformed_or_wanting(name: str, data: bytes) -> None:
    try:
        found = Layout(LAYOUTS[name], ">").read(data, 0, len(data), 1000)
    except Malformed:
        return
    if isinstance(found, int):
        assert len(data) < found <= 1000
    else:
        assert found[1] <= len(data)


def test_a_size_above_the_limit_is_refused_before_its_bytes_come() -> None:
    for wire in ((1001).to_bytes(4), (2**32 - 1).to_bytes(4)):
        with pytest.raises(Malformed, match="limit 1000"):
            Layout({"size": "I=total", "a": "*"}, ">").read(wire, 0, 4, 1000)
        with pytest.raises(Malformed, match="limit 1000"):
            Layout({"a": "I*"}, ">").read(wire, 0, 4, 1000)


@pytest.mark.parametrize(
    ("fields", "wire"),
    [
        ({"size": "B=total", "a": "*"}, b"\0"),
        ({"size": "B=rest", "a": "B*", "b": "B*"}, b"\x02\x01x\x01y"),
        ({"size": "B=rest", "a": "B*"}, b"\x04\x01xyz"),
        ({"n": "varint"}, b"\xff" * 10),
        ({"size": "B=a+4", "a": "*"}, b"\1"),
    ],
)
def test_sizes_that_contradict_each_other(fields: dict[str, str], wire: bytes) -> None:
    with pytest.raises(Malformed):
        Layout(fields, ">").read(wire, 0, len(wire), 1000)


@pytest.mark.parametrize(
    "fields",
    [
        {"a": "*"},
        {"size": "I=total", "a": "*", "b": "*"},
        {"size": "I=total", "a": "*", "n": "B"},
        {"size": "I=nothing"},
        {"size": "varint=total", "a": "*"},
        {"a": "what"},
        {"a": ""},
    ],
)
def test_layouts_that_cannot_work(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Layout(fields, ">")


def test_what_does_not_fit_is_not_written() -> None:
    with pytest.raises(ValueError, match="no multiple of 4"):
        Layout({"words": "H=a/4", "a": "*"}, ">").write({"a": b"x"})
    with pytest.raises(TypeError):
        Layout({"a": "B*"}, ">").write({"a": 1})
    with pytest.raises(ValueError, match="no whole number"):
        Layout({"n": "varint"}, ">").write({"n": -1})


@given(st.integers(0, 2**64 - 1))
def test_varints(number: int) -> None:
    wire = write_varint(number)
    assert read_varint(b"x" + wire, 1) == (number, 1 + len(wire))
    with pytest.raises(ValueError, match="no end"):
        read_varint(wire[:-1], 0)


@given(st.binary(max_size=255))
def test_sized(raw: bytes) -> None:
    wire = write_sized(raw, 1)
    assert read_sized(wire + b"x", 0, 1) == (raw, len(wire))
    if raw:
        with pytest.raises(ValueError, match="breaks off"):
            read_sized(wire[:-1], 0, 1)
