"""The JSON protocol: heads, exceptions, and where a message ends."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codecs.thrift.values import STRUCTS, Value, write
from xproxy.codecs.message_wire import Malformed
from xproxy.codecs.thrift.json_text import JsonEncoding, JsonWalker

JSON = JsonEncoding()


@pytest.mark.parametrize("seqid", [0, 7, 0x7FFFFFFF, 0xFFFFFFFF])
def test_heads_round_trip(seqid: int) -> None:
    head = JSON.write_head(1, b"Calc:add", seqid)
    data = head + b"{}]"
    assert JSON.read_head(data, 0, len(data)) == (1, b"Calc:add", seqid, len(head))
    assert json.loads(data)[:3] == [1, "Calc:add", 1]
    for size in range(len(head)):
        needed = JSON.read_head(head[:size], 0, size)
        assert isinstance(needed, int)
        assert size < needed <= len(head)


@pytest.mark.parametrize(
    "data",
    [
        b'[2,"a",1,0,' + b" " * 300,
        b'[1,"' + b"a" * 257 + b'",1,0,{}]',
        b'[1,"a",7,0,{}]',
        b'[1,"a",1,9999999999,{}]',
    ],
)
def test_what_is_no_head(data: bytes) -> None:
    with pytest.raises(Malformed):
        JSON.read_head(data, 0, len(data))


def test_a_head_that_never_ends_is_not_waited_for() -> None:
    data = b'[1,"a' + b" " * 2000
    with pytest.raises(Malformed):
        JSON.read_head(data, 0, len(data))


@settings(max_examples=100, deadline=None)
@given(STRUCTS, st.binary(max_size=20))
def test_the_end_is_where_the_writer_ended(fields: list[tuple[int, Value]], rest: bytes) -> None:
    data = write(fields, "json")
    for size in range(len(data)):
        assert not JsonWalker(0, 1 << 20).walk(data, 0, size)
    walker = JsonWalker(0, 1 << 20)
    for size in range(len(data)):
        walker.walk(data + rest, 0, size)
    assert walker.walk(data + rest, 0, len(data + rest))
    assert walker.pos == len(data)


@pytest.mark.parametrize("data", [b"[", b"x", b"{]", b"{[}", b"{" + b"[" * 100])
def test_what_is_no_struct(data: bytes) -> None:
    with pytest.raises(Malformed):
        JsonWalker(0, 1000).walk(data, 0, len(data))


def test_brackets_in_strings_are_text() -> None:
    data = rb'{"1":{"str":"}]\"\\"}}'
    walker = JsonWalker(0, 1000)
    assert walker.walk(data + b"]", 0, len(data) + 1)
    assert walker.pos == len(data)
    with pytest.raises(Malformed, match="limit 5"):
        JsonWalker(0, 5).walk(data, 0, len(data))


def test_exceptions() -> None:
    data = JSON.exception(6, 'a "quoted"\n\\ text')
    assert json.loads(data) == {"1": {"str": 'a "quoted"\n\\ text'}, "2": {"i32": 6}}
    assert JSON.exception_code(data) == 6
    assert JSON.exception_code(rb'{"1":{"str":"\"2\":{\"i32\":3}"}}') == 0
    assert JSON.declared(b'{"1":{"rec":{}}}')
    assert not JSON.declared(b'{"0":{"i32":1}}')
    assert not JSON.declared(b"{}")
