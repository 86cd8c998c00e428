"""Bytes of which each place is known."""

from __future__ import annotations

import hashlib

import pytest

from bench.takeover.pattern import BLOCK_BYTES, Check, Differs, blocks, digest

SIZE = 2 * BLOCK_BYTES + 100


def test_pieces_of_any_size_are_compared() -> None:
    whole = b"".join(blocks(7, SIZE))
    check = Check(7, SIZE)
    at, step = 0, 1
    while at < SIZE:
        check.take(whole[at : at + step])
        at, step = at + step, step * 2 + 1
    check.end()
    assert hashlib.sha256(whole).hexdigest() == digest(7, SIZE)


def test_the_place_of_another_byte_is_said() -> None:
    whole = bytearray(b"".join(blocks(7, SIZE)))
    whole[BLOCK_BYTES + 5] ^= 1
    with pytest.raises(Differs, match=f"at {BLOCK_BYTES + 5} of {SIZE}"):
        Check(7, SIZE).take(whole)


def test_a_block_that_is_missing_is_seen_at_once() -> None:
    whole = b"".join(blocks(7, SIZE))
    with pytest.raises(Differs, match=f"at {BLOCK_BYTES + 7} of"):
        Check(7, SIZE).take(whole[:BLOCK_BYTES] + whole[2 * BLOCK_BYTES :])


def test_too_little_and_too_much() -> None:
    whole = b"".join(blocks(7, SIZE))
    check = Check(7, SIZE)
    check.take(whole[:-1])
    with pytest.raises(Differs, match="came of"):
        check.end()
    with pytest.raises(Differs, match="more than"):
        check.take(whole[-1:] + b"x")


def test_streams_of_other_seeds_differ_from_the_start() -> None:
    assert next(iter(blocks(1, 100)))[8:] != next(iter(blocks(2, 100)))[8:]
