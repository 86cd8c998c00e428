"""Values are passed over whatever they are, and hostile ones cost what is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import rounds
from xproxy.codecs.dubbo.arguments import (
    MAX_DEFINITIONS,
    MAX_DEPTH,
    MAX_FIELDS,
    Walk,
    passing,
    past,
    past_plain,
)
from xproxy.codecs.hessian2 import HessianError, write_binary, write_text

TWO_FIELDS = b"C" + write_text("demo.User") + b"\x92" + write_text("id") + write_text("name")

VALUES = [
    b"N",
    b"T",
    b"F",
    b"\x90",
    b"\xc8\x00",
    b"\xd4\x00\x00",
    b"I1234",
    b"\xe0",
    b"\xf8\x00",
    b"\x3c\x00\x00",
    b"Y1234",
    b"L12345678",
    b"\x5b",
    b"\x5c",
    b"\x5d1",
    b"\x5e12",
    b"\x5f1234",
    b"D12345678",
    b"J12345678",
    b"K1234",
    b"\x00",
    b"\x03abc",
    write_text("größe😀"),
    write_text("x" * 500),
    write_text("y" * 70_000),
    b"\x20",
    b"\x23abc",
    write_binary(bytes(500)),
    write_binary(bytes(70_000)),
    b"HZ",
    b"H\x01a\x90\x01bNZ",
    b"M\x04type\x01a\x90Z",
    b"M\x90\x01a\x90Z",
    b"U\x04[int\x90\x91Z",
    b"V\x04[int\x92\x90\x91",
    b"WZ",
    b"WNNZ",
    b"X\x92NN",
    b"\x70\x04[int",
    b"\x72\x90NN",
    b"\x78",
    b"\x7aNN",
    TWO_FIELDS + b"\x60\x90\x01n",
    TWO_FIELDS + b"O\x90\x90\x01n",
    b"Q\x90",
    b"\x79\x79\x79HH\x90\x90ZNZ",
    TWO_FIELDS + b"\x7a\x60N\x60NNN",
]


@pytest.mark.parametrize("value", VALUES, ids=[v[:8].hex() for v in VALUES])
def test_each_kind_of_value(value: bytes) -> None:
    assert past(value, 0, 1, Walk()) == len(value)
    assert past(b"-" + value + b"Z", 1, 1, Walk()) == len(value) + 1
    assert past(value + b"N", 0, 2, Walk()) == len(value) + 1
    assert past_plain(value, 0, 1) in {len(value), -1}
    for cut in range(0, len(value), max(1, len(value) // 50)):
        with pytest.raises(HessianError):
            past(value[:cut], 0, 1, Walk())
        assert past_plain(value[:cut], 0, 1) == -1


def test_plain_ones_are_known_without_a_walk() -> None:
    others = {value for value in VALUES if past_plain(value, 0, 1) < 0}
    containers = {value for value in VALUES if value[0] in b"HMUVWXCQprxyz"}
    assert others == containers | {value for value in VALUES if value[0] in b"RA45"}
    data = b"\x90\x01aN" + write_text("ö") + b"HZ"
    assert past_plain(data, 0, 4) == len(data) - 2
    assert past_plain(data, 0, 5) == -1
    assert past_plain(b"", 0, 0) == 0
    assert past_plain(b"\x01\xff", 0, 1) == -1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"Z",
        b"\x40",
        b"\x45",
        b"\x47",
        b"\x50",
        b"H\x01aZ",  # a key without its value
        b"\x7aNZ",
        b"\x60",
        b"O\x90",
        b"O\x8f",
        b"ON",
        TWO_FIELDS + b"\x61NN",
        TWO_FIELDS,
        TWO_FIELDS + b"\x60N",
        b"CN",
        b"C\x01x\x8f",
        b"XI\x7f\xff\xff\xff",
        b"X\x8f",
        b"V\x01x\xbf",
        b"M\x5b",
        b"QN",
    ],
)
def test_nonsense_is_refused(data: bytes) -> None:
    with pytest.raises(HessianError):
        past(data, 0, 1, Walk())


def test_depth_is_bounded() -> None:
    fine, deep = b"\x79" * MAX_DEPTH + b"N", b"\x79" * (MAX_DEPTH + 1) + b"N"
    assert past(fine, 0, 1, Walk()) == len(fine)
    for data in (deep, b"\x79" * 1_000_000, b"H" * 1_000_000, b"W" * 1_000_000):
        with pytest.raises(HessianError, match="deeper than 64"):
            past(data, 0, 1, Walk())


def too_many(data: bytes) -> None:
    with pytest.raises(HessianError, match="too many values"):
        past(data, 0, 1, Walk())


def test_the_number_of_values_is_bounded_and_so_is_the_time() -> None:
    data, bound = b"W" + b"N" * 8_000_000 + b"Z", 16e6
    assert rounds(lambda: too_many(data), bound) < bound
    walk = Walk(10)
    assert past(b"N" * 10, 0, 10, walk) == 10
    with pytest.raises(HessianError, match="too many values"):
        past(b"N", 0, 1, walk)


@pytest.mark.parametrize(
    ("value", "count", "slices"),
    [
        (b"N", 65_000, 65),
        (b"HZ", 65_000, 65),
        (b"\x78", 65_000, 65),
        (b"S\xff\xff" + b"x" * 65_535, 40, 12),
        (b"B\xff\xff" + b"x" * 65_535, 40, 12),
        ((b"R\x80\0" + b"x" * 0x8000) * 10 + b"\0", 4, 8),
    ],
)
def test_a_long_walk_is_done_in_slices(value: bytes, count: int, slices: int) -> None:
    data = value * count
    work, walk = passing(data, 0, count, Walk()), Walk()
    taken = 0
    for _ in work:
        taken += 1
    assert slices - 2 <= taken <= 2 * slices
    assert past(data, 0, count, walk) == len(data)
    assert walk.values <= Walk().values - count, "what was taken and not spent comes back"
    assert walk.values > 0


def test_definitions_and_their_fields_are_bounded() -> None:
    one = b"C\x01x\x90"
    assert past(one * MAX_DEFINITIONS + b"N", 0, 1, Walk()) == MAX_DEFINITIONS * len(one) + 1
    with pytest.raises(HessianError, match="1000 classes"):
        past(one * (MAX_DEFINITIONS + 1) + b"N", 0, 1, Walk())
    many = b"C\x01xI" + (MAX_FIELDS + 1).to_bytes(4) + b"\x00" * (MAX_FIELDS + 1)
    with pytest.raises(HessianError, match="1000 fields"):
        past(many, 0, 1, Walk())
    wide = b"C\x01xI" + MAX_FIELDS.to_bytes(4) + b"\x00" * MAX_FIELDS
    with pytest.raises(HessianError, match="too many values"):
        past(wide * 100 + b"N", 0, 1, Walk())


def test_a_walk_knows_definitions_and_references_from_before() -> None:
    walk = Walk()
    data = TWO_FIELDS + b"\x60NN" + b"\x60\x90Q\x90"
    at = past(data, 0, 1, walk)
    assert not walk.has_references
    assert past(data, at, 1, walk) == len(data)
    assert walk.has_references


@settings(max_examples=300)
@given(
    st.binary(max_size=80)
    | st.lists(st.sampled_from([*VALUES[:22], b"H", b"W", b"Z", b"C\x01x\x91\x01a", b"\x60"])).map(
        b"".join
    ),
    st.integers(0, 3),
)
def test_any_bytes_end_or_are_refused(data: bytes, count: int) -> None:
    plain = past_plain(data, 0, count)
    try:
        at = past(data, 0, count, Walk())
    except HessianError:
        at = -1
    assert plain in {at, -1}
    assert at <= len(data)


@pytest.mark.parametrize(
    ("chunk", "last"), [(b"R\0\0", b"S\0\0"), (b"R\0\1a", b"\1b"), (b"A\0\1a", b"\x21b")]
)
def test_a_chunk_costs_what_a_value_costs(chunk: bytes, last: bytes) -> None:
    """A string may be cut into bytes: a message of 16 MiB holds five million chunks."""
    data = chunk * 100 + last + b"N"
    assert past(data, 0, 1, Walk(101)) == len(data) - 1
    assert past(data, 0, 2, Walk(102)) == len(data)
    with pytest.raises(HessianError, match="too many values"):
        past(data, 0, 1, Walk(100))
    with pytest.raises(HessianError, match="not"):
        past(chunk + b"N", 0, 1, Walk())
    with pytest.raises(HessianError):
        past(chunk, 0, 1, Walk())
    long, bound = chunk * 4_000_000 + last, 3e7
    assert rounds(lambda: too_many(long), bound) < bound
