"""The compact protocol: varints, heads, exceptions, and where a struct ends."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codecs.thrift.values import STRUCTS, Value, write
from tests.effort import rounds
from xproxy.codecs.message_wire import Malformed
from xproxy.codecs.thrift.compact import (
    CompactEncoding,
    CompactWalker,
    read_varint,
    unzigzag,
    write_varint,
    zigzag,
)

COMPACT = CompactEncoding()
LIMIT = 1 << 24


def end_of(data: bytes, limit: int = LIMIT) -> int | None:
    walker = CompactWalker(0, limit)
    return walker.pos if walker.walk(data, 0, len(data)) else None


@given(st.integers(0, 2**32 - 1))
def test_varints_round_trip(number: int) -> None:
    data = write_varint(number)
    assert read_varint(b"?" + data, 1, 1 + len(data)) == (number, 1 + len(data))
    assert read_varint(data, 0, len(data) - 1) == (0, -1)


@given(st.integers(-(2**63), 2**63 - 1))
def test_zigzag_round_trips(number: int) -> None:
    assert unzigzag(zigzag(number)) == number
    assert zigzag(number) >= 0


@pytest.mark.parametrize("data", ["ffffffffff", "ffffffff1f", "808080808000"])
def test_varints_are_bounded(data: str) -> None:
    with pytest.raises(Malformed):
        read_varint(bytes.fromhex(data), 0, len(data) // 2)


@pytest.mark.parametrize("seqid", [0, 127, 128, 70_000, 0xFFFFFFFF])
def test_heads_round_trip(seqid: int) -> None:
    head = COMPACT.write_head(1, b"Calc:add", seqid)
    assert COMPACT.read_head(head + b"x", 0, len(head) + 1) == (1, b"Calc:add", seqid, len(head))
    for size in range(len(head)):
        needed = COMPACT.read_head(head[:size], 0, size)
        assert isinstance(needed, int)
        assert size < needed <= len(head)


@pytest.mark.parametrize("data", ["8222", "82a1", "8201", "8121", "8221008102", "8221ffffffffff"])
def test_what_is_no_head(data: str) -> None:
    raw = bytes.fromhex(data)
    with pytest.raises(Malformed):
        COMPACT.read_head(raw, 0, len(raw))


@settings(max_examples=80, deadline=None)
@given(STRUCTS, st.binary(max_size=20))
def test_the_end_is_where_the_writer_ended(fields: list[tuple[int, Value]], rest: bytes) -> None:
    data = write(fields, "compact")
    assert end_of(data + rest) == len(data)
    walker = CompactWalker(0, LIMIT)
    held = bytearray()
    for index, byte in enumerate(data):
        assert not walker.walk(held, 0, len(held))
        assert index < walker.need <= len(data)
        held.append(byte)
    assert walker.walk(held, 0, len(held))
    assert walker.pos == len(data)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 60))
def test_any_bytes_have_one_verdict(data: bytes, cut: int) -> None:
    def verdict(pieces: list[bytes]) -> object:
        walker, held = CompactWalker(0, 50), bytearray()
        try:
            for piece in pieces:
                held += piece
                if walker.walk(held, 0, len(held)):
                    return walker.pos
        except Malformed:
            return "malformed"
        return None

    whole = verdict([data])
    assert verdict([data[:cut], data[cut:]]) == whole
    assert verdict([data[i : i + 1] for i in range(len(data))]) == whole


@pytest.mark.parametrize(
    "data",
    [
        "1e",
        "1f",
        "19 10",  # a list of type 0
        "1b 01 05",  # a map of types 0 and 5
        "19 f5 ffffffff0f",  # more elements than bytes
        "18 ffffffff0f",
        "14 ffffff01",  # an i16 of 4 bytes
        "15 ffffffffff01",
        "16 ffffffffffffffffffff01",
        "05 ffffff01 00",  # a field id of 4 bytes
    ],
)
def test_what_is_no_struct(data: str) -> None:
    with pytest.raises(Malformed):
        end_of(bytes.fromhex(data))


def test_a_long_list_of_integers_is_run_over() -> None:
    data = b"\x19\xf6" + write_varint(1_000_000) + b"\x81\x01" * 1_000_000 + b"\0"
    assert end_of(data) == len(data)
    bound = 3e7
    assert rounds(lambda: end_of(data), bound) < bound
    with pytest.raises(Malformed):  # also in the midst of them each has its bound
        end_of(b"\x19\xf4" + write_varint(100) + b"\x81\x81\x81\x01" * 100 + b"\0")


def test_depth_is_counted() -> None:
    assert end_of(b"\x1c" * 63 + b"\0" * 64) == 127
    for data in (b"\x1c" * 100_000, b"\x19" + b"\x19" * 100_000):
        with pytest.raises(Malformed, match="deeper"):
            end_of(data)


def test_exceptions() -> None:
    data = COMPACT.exception(6, "x")
    assert data == bytes.fromhex("18 01 78 15 0c 00")
    assert COMPACT.exception_code(data) == 6
    assert COMPACT.exception_code(bytes.fromhex("25 0e 00")) == 7
    assert COMPACT.exception_code(bytes.fromhex("05 04 0e 00")) == 7
    assert COMPACT.exception_code(bytes.fromhex("1c 00 15 0c 00")) == 0
    assert end_of(data) == len(data)


@given(st.binary(max_size=30))
def test_an_exceptions_type_is_total(data: bytes) -> None:
    assert isinstance(COMPACT.exception_code(data), int)


@pytest.mark.parametrize(
    ("data", "declared"),
    [("00", False), ("", False), ("05 00 06 00", False), ("1c 00 00", True), ("0c 02 00 00", True)],
)
def test_declared_exceptions(data: str, declared: bool) -> None:
    assert COMPACT.declared(bytes.fromhex(data)) is declared
