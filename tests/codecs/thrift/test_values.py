"""Readers take what writers give, in either protocol, up to the ends of each type."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.codecs.thrift.values import (
    BOOL,
    DOUBLE,
    I16,
    I64,
    BinaryReader,
    BinaryWriter,
    CompactReader,
    CompactWriter,
    Reader,
    Writer,
)

KINDS: list[tuple[type[Reader], type[Writer]]] = [
    (BinaryReader, BinaryWriter),
    (CompactReader, CompactWriter),
]
each = pytest.mark.parametrize(("read", "write"), KINDS, ids=["binary", "compact"])


@each
@given(
    ids=st.lists(st.integers(-(2**15), 2**15 - 1), max_size=20),
    numbers=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20),
)
def test_fields_and_integers_come_back(
    read: type[Reader], write: type[Writer], ids: list[int], numbers: list[int]
) -> None:
    writer = write()
    for number, value in zip(ids, numbers, strict=False):
        writer.field(I64, number)
        writer.integer(I64, value)
    writer.leave()
    reader = read(bytes(writer.out))
    for number, value in zip(ids, numbers, strict=False):
        assert reader.field() == (I64, number)
        assert reader.integer(I64) == value
    assert reader.field()[0] == 0


@each
def test_everything_else_comes_back(read: type[Reader], write: type[Writer]) -> None:
    writer = write()
    writer.field(BOOL, 1)
    writer.boolean(True)
    writer.field(BOOL, 2)
    writer.boolean(False)
    writer.field(DOUBLE, 3)
    writer.double(struct.pack(">d", 1.5))
    writer.field(11, 4)
    writer.text(b"text")
    writer.field(15, 5)
    writer.list_head(BOOL, 20)
    writer.boolean(True)
    writer.field(13, 6)
    writer.map_head(11, I16, 1)
    writer.leave()
    reader = read(bytes(writer.out))
    assert reader.field() == (BOOL, 1)
    assert reader.boolean() is True
    assert reader.field() == (BOOL, 2)
    assert reader.boolean() is False
    assert reader.field() == (DOUBLE, 3)
    assert struct.unpack(">d", reader.double()) == (1.5,)
    assert reader.field() == (11, 4)
    assert reader.text() == b"text"
    assert reader.field() == (15, 5)
    assert reader.list_head() == (BOOL, 20)
    assert reader.boolean() is True
    assert reader.field() == (13, 6)
    assert reader.map_head() == (11, I16, 1)
    assert reader.field()[0] == 0


def test_a_number_that_binary_cannot_hold() -> None:
    with pytest.raises(struct.error):
        BinaryWriter().integer(I16, 1 << 15)
