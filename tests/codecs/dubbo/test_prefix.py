"""The prefix of a request: for whom it is, in every form that peers write it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xproxy.codecs.dubbo.prefix import (
    MEMO_BYTES,
    count_parameters,
    make_prefix,
    past_prefix,
    read_prefix,
)
from xproxy.codecs.hessian2 import HessianError, write_text

GENERIC = "Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;"


@pytest.mark.parametrize(
    ("types", "count"),
    [
        ("", 0),
        ("I", 1),
        ("ZBCDFIJS", 8),
        ("ILjava/lang/String;[J", 3),
        ("[[Ljava/lang/String;[[[I", 2),
        (GENERIC, 3),
        ("V", -1),
        ("L;", -1),
        ("Ljava/lang/String", -1),
        ("[", -1),
        ("I I", -1),
    ],
)
def test_parameters_are_counted(types: str, count: int) -> None:
    assert count_parameters(types) == count


def test_many_parameters_are_counted_in_linear_time() -> None:
    assert count_parameters("[" * 60_000) == -1
    assert count_parameters("I" * 255) == 255
    assert count_parameters("I" * 60_000) == -1, "no method has so many (JVMS §4.3.3)"


@pytest.mark.parametrize("version", ["", "1.0.0", None])
@pytest.mark.parametrize("mark", [b"", b"\x8f", b"I\x00\x00\x00\x01"])
def test_what_is_made_is_read(version: str | None, mark: bytes) -> None:
    made = make_prefix("a.B", "größe", "I", version=version, release="2.8.4", mark=mark)
    assert read_prefix(made.block) == made
    assert past_prefix(made.block + b"\x90HZ") == len(made.block)
    assert read_prefix(made.block + b"N") is None
    assert read_prefix(made.block[:-1]) is None
    for cut in range(len(made.block)):
        with pytest.raises(HessianError):
            past_prefix(made.block[:cut])


def test_equal_blocks_are_read_once_and_long_ones_each_time() -> None:
    block = make_prefix("once", "m", "").block
    assert read_prefix(block) is read_prefix(bytes(bytearray(block)))
    long = make_prefix("s" * MEMO_BYTES, "m", "").block
    assert read_prefix(long) is not read_prefix(long)
    assert read_prefix(long) == read_prefix(long)


@pytest.mark.parametrize(
    ("method", "types", "generic"),
    [
        ("$invoke", GENERIC, True),
        ("$invokeAsync", GENERIC, True),
        ("$invoke", "I", False),
        ("invoke", GENERIC, False),
        ("$echo", "Ljava/lang/Object;", False),
    ],
)
def test_generic_calls(method: str, types: str, *, generic: bool) -> None:
    assert make_prefix("s", method, types).generic is generic


@pytest.mark.parametrize(
    ("release", "attachable"),
    [
        ("2.0.2", True),
        ("2.0.2-SNAPSHOT", True),
        ("2.0.99", True),
        ("2.0.1", False),
        ("2.5.3", False),
        ("2.6.0", False),
        ("5.3.0", False),
        ("", False),
        ("x", False),
        ("9" * 5000, False),
    ],
)
def test_who_understands_an_answer_with_attachments(release: str, *, attachable: bool) -> None:
    assert make_prefix("s", "m", "", release=release).attachable is attachable


@pytest.mark.parametrize(
    "block", [b"", b"N", b"\x01a\x01b\x01c\x01d", b"\x01aN\x00\x00\x00", b"\x01a\x01b\x00\x00N"]
)
def test_what_is_none(block: bytes) -> None:
    assert read_prefix(block) is None


@settings(max_examples=200)
@given(st.binary(max_size=60), st.integers(0, 60))
def test_any_block_is_read_or_not(noise: bytes, keep: int) -> None:
    block = make_prefix("service", "m", "I").block[:keep] + noise
    found = read_prefix(block)
    assert found is None or found.block == block


def test_a_null_method_is_none() -> None:
    assert read_prefix(write_text("2") + write_text("s") + b"\x00NN") is None
