"""Plain hessian2 values: what is written comes back, strings count UTF-16 units, and nothing else is read."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xproxy.codecs.hessian2 import (
    MAX_SHORT_CHUNKS,
    HessianError,
    past_binary,
    past_text,
    past_type,
    read_binary,
    read_int,
    read_scalar,
    read_text,
    write_binary,
    write_text,
)

SMILE = "".join(map(chr, struct.unpack(">2H", "😀".encode("utf-16-be"))))
"""As Java has it: two surrogates."""


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\x00", ""),
        (b"\x02ab", "ab"),
        (b"\x30\x40" + b"x" * 64, "x" * 64),
        (b"\x33\xff" + b"x" * 1023, "x" * 1023),
        (b"S\x00\x02ab", "ab"),
        (b"R\x00\x02abR\x00\x01cS\x00\x01d", "abcd"),
        (b"R\x00\x02ab\x02cd", "abcd"),
        (b"\x03" + "größe".encode()[:4], "grö"),
        (b"\x02" + SMILE.encode("utf-8", "surrogatepass"), "😀"),
        (b"\x02" + "😀".encode(), "😀"),
        (b"\x03a" + "😀".encode(), "a😀"),
        (b"\x01" + SMILE[0].encode("utf-8", "surrogatepass"), SMILE[0]),
    ],
)
def test_strings_are_read_and_passed_over(raw: bytes, text: str) -> None:
    # Ints look like continuation bytes.
    assert read_text(raw + b"\x90\x8f", 0) == (text, len(raw))
    assert read_text(b"--" + raw, 2) == (text, len(raw) + 2)
    assert past_text(raw, 0) == len(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"\x02a",
        b"\x30",
        b"\x30\x02a",
        b"S\x00",
        b"R\x00\x01a",
        b"R\x00\x01a\x90",
        b"\x90",
        b"N",
        b"\x01\xff",
        b"\x01\x80",
        b"\x02\xc3\xa4",
        b"\x01" + "😀".encode(),
        b"\x02\xe4" + b"\x80" * 1000,
        b"\x01" + b"\x80" * 1000,
        b"\x03" + b"\xf0" * 9,
    ],
)
def test_what_is_no_string_is_refused(raw: bytes) -> None:
    for read in (read_text, past_text):
        with pytest.raises((HessianError, IndexError)):
            read(raw, 0)


@settings(max_examples=200)
@given(st.text(st.characters(), max_size=80) | st.text("aö€😀", max_size=80).map(lambda t: t * 30))
def test_strings_come_back(text: str) -> None:
    raw = write_text(text)
    assert read_text(raw + b"\x90\x8f", 0) == (text, len(raw))
    assert past_text(raw + b"\x8f", 0) == len(raw)


@pytest.mark.parametrize("text", ["a", "ö", "😀"])
@pytest.mark.parametrize("count", [31, 32, 1023, 1024, 40_000, 70_000])
def test_long_strings_come_back(text: str, count: int) -> None:
    raw = write_text(text * count)
    assert read_text(raw, 0) == (text * count, len(raw))
    with pytest.raises((HessianError, IndexError)):
        past_text(raw[:-1], 0)


def test_java_reads_a_surrogate_at_a_time() -> None:
    assert write_text("😀") == b"\x02" + SMILE.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("size", [0, 1, 15, 16, 1023, 1024, 32_768, 32_769, 100_000])
def test_binary_comes_back(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    raw = write_binary(data[:size])
    assert read_binary(raw + b"N", 0) == (data[:size], len(raw))
    assert past_binary(raw, 0) == len(raw)
    if size:
        with pytest.raises((HessianError, IndexError)):
            read_binary(raw[:-1], 0)


def test_binary_in_chunks() -> None:
    raw = b"A\x00\x02abA\x00\x00B\x00\x01c"
    assert read_binary(raw, 0) == (b"abc", len(raw))
    assert read_binary(b"A\x00\x02ab\x21c", 0) == (b"abc", 7)
    with pytest.raises(HessianError):
        read_binary(b"A\x00\x02ab\x01c", 0)


@pytest.mark.parametrize(
    ("raw", "number"),
    [
        (b"\x90", 0),
        (b"\x80", -16),
        (b"\xbf", 47),
        (b"\xc0\x00", -2048),
        (b"\xcf\xff", 2047),
        (b"\xd0\x00\x00", -262144),
        (b"\xd7\xff\xff", 262143),
        (b"I\x80\x00\x00\x00", -(2**31)),
    ],
)
def test_ints(raw: bytes, number: int) -> None:
    assert read_int(raw, 0) == (number, len(raw))
    assert read_scalar(raw, 0) == (str(number), len(raw))
    if len(raw) > 1:
        with pytest.raises((HessianError, IndexError)):
            read_int(raw[:-1], 0)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\xd8", "-8"),
        (b"\xef", "15"),
        (b"\xf0\x00", "-2048"),
        (b"\xff\xff", "2047"),
        (b"\x38\x00\x00", "-262144"),
        (b"\x3f\xff\xff", "262143"),
        (b"L" + b"\xff" * 8, "-1"),
        (b"Y\x00\x00\x00\x07", "7"),
        (b"T", "true"),
        (b"F", "false"),
        (b"N", ""),
        (b"\x02ab", "ab"),
    ],
)
def test_scalars_as_text(raw: bytes, text: str) -> None:
    assert read_scalar(raw, 0) == (text, len(raw))


@pytest.mark.parametrize("raw", [b"\x5b", b"\x5c", b"D12345678", b"\x21a", b"H", b"\x60", b"Q\x90"])
def test_others_have_no_text(raw: bytes) -> None:
    assert read_scalar(raw, 0) == (None, 0)


def test_a_type_is_a_name_or_a_number() -> None:
    assert past_type(b"\x01[", 0) == 2
    assert past_type(b"\x91", 0) == 1
    with pytest.raises(HessianError):
        past_type(b"N", 0)


@pytest.mark.parametrize("read", [past_text, read_text])
def test_a_string_in_very_many_short_chunks_is_refused(
    read: Callable[[bytes, int], object],
) -> None:
    read(b"R\0\1a" * MAX_SHORT_CHUNKS + b"\0", 0)
    with pytest.raises(HessianError, match="short chunks"):
        read(b"R\0\1a" * (MAX_SHORT_CHUNKS + 1) + b"\0", 0)
    long = b"R\x04\0" + b"a" * 1024
    read(long * 1000 + b"\0", 0)


@pytest.mark.parametrize("read", [past_binary, read_binary])
def test_binary_likewise(read: Callable[[bytes, int], object]) -> None:
    read(b"A\0\1a" * MAX_SHORT_CHUNKS + b"\x20", 0)
    with pytest.raises(HessianError, match="short chunks"):
        read(b"A\0\1a" * (MAX_SHORT_CHUNKS + 1) + b"\x20", 0)
