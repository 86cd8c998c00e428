"""Snapshots come back as they were written, or as a ValueError."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.codecs.packing import (
    MAX_STATE_BYTES,
    check_types,
    open_state,
    pack_state,
    unpack_state,
)

STATE = pack_state("c", 1, (b"held", {7: 1}, True, 3, "x"))
TYPES = (bytes, dict, bool, int, str)


def test_fields_come_back() -> None:
    assert unpack_state("c", 1, TYPES, STATE) == [b"held", {7: 1}, True, 3, "x"]


@pytest.mark.parametrize(
    ("codec", "version", "types", "data"),
    [
        ("d", 1, TYPES, STATE),
        ("c", 2, TYPES, STATE),
        ("c", 1, TYPES[:-1], STATE),
        ("c", 1, (*TYPES[:-1], int), STATE),
        ("c", 1, (bytes, dict, int, int, str), STATE),  # a bool is no number
        ("c", 1, TYPES, STATE[:-1]),
        ("c", 1, TYPES, STATE + b"\0"),
        ("c", 1, TYPES, b""),
        ("c", 1, TYPES, b"\x90"),
        ("c", 1, TYPES, b"\x91\xa1c"),
        ("c", 1, TYPES, b"\x91" * 3000),
        ("c", 1, TYPES, b"\x81\x90\xc0"),
    ],
)
def test_anything_else_is_a_value_error(
    codec: str, version: int, types: tuple[type, ...], data: bytes
) -> None:
    with pytest.raises(ValueError, match="snapshot of"):
        unpack_state(codec, version, types, data)


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with pytest.raises(ValueError, match="snapshot of c"):
        unpack_state("c", 1, TYPES, data)


def test_a_state_is_opened_by_its_version() -> None:
    assert open_state("c", pack_state("c", 7, ({"a": 1},))) == (7, [{"a": 1}])
    assert check_types("c", (int,), [1]) == [1]
    with pytest.raises(ValueError, match="other fields"):
        check_types("c", (int,), [True])


def test_a_state_that_is_too_long_is_not_looked_at() -> None:
    with pytest.raises(ValueError, match="MAX_STATE_BYTES"):
        open_state("c", bytes(MAX_STATE_BYTES + 1))
