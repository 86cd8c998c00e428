"""Heads and exceptions of the binary protocol."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.codecs.message_wire import Malformed
from xproxy.codecs.thrift.binary import BinaryEncoding

STRICT, OLD = BinaryEncoding(strict=True), BinaryEncoding(strict=False)
both = pytest.mark.parametrize("encoding", [STRICT, OLD], ids=["strict", "old"])


@both
def test_heads_round_trip_and_ask_for_what_they_need(encoding: BinaryEncoding) -> None:
    head = encoding.write_head(3, b"Calc:add", 0xFFFFFFFE)
    data = b"??" + head + b"rest"
    assert encoding.read_head(data, 2, len(data)) == (3, b"Calc:add", 0xFFFFFFFE, 2 + len(head))
    for size in range(len(head)):
        needed = encoding.read_head(head[:size], 0, size)
        assert isinstance(needed, int)
        assert size < needed <= len(head)


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        (STRICT, "80020001 00000000 00000000"),
        (STRICT, "80010100 00000000"),
        (STRICT, "80010000 00000000"),
        (STRICT, "80010005 00000000"),
        (STRICT, "80010001 00000101"),
        (STRICT, "80010001 ffffffff"),
        (OLD, "00000101"),
        (OLD, "00000001 61 05 00000000"),
    ],
)
def test_what_is_no_head(encoding: BinaryEncoding, data: str) -> None:
    raw = bytes.fromhex(data)
    with pytest.raises(Malformed):
        encoding.read_head(raw, 0, len(raw))


def test_an_exception_is_the_bytes_of_the_reference() -> None:
    assert STRICT.exception(6, "x") == bytes.fromhex("0b000100000001780800020000000600")
    assert STRICT.exception_code(STRICT.exception(11, "häh")) == 11


@given(st.binary(max_size=40))
def test_an_exceptions_type_is_total(data: bytes) -> None:
    assert isinstance(STRICT.exception_code(data), int)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ("", 0),
        ("00", 0),
        ("08 0002 00000007 00", 7),
        ("08 0002 00000007 0b 0001 00000000 00", 7),
        ("0b 0001 00000001 78 00", 0),
        ("0b 0001 ffffffff 08 0002 00000007", 0),
        ("0c 0001 00 08 0002 00000007 00", 0),
    ],
)
def test_the_type_in_any_order(data: str, code: int) -> None:
    assert OLD.exception_code(bytes.fromhex(data)) == code


@pytest.mark.parametrize(
    ("data", "declared"),
    [("00", False), ("", False), ("08 0000 00000003 00", False), ("0c 0001 00 00", True)],
)
def test_declared_exceptions(data: str, declared: bool) -> None:
    assert STRICT.declared(bytes.fromhex(data)) is declared
