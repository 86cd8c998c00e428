"""THeader's header, its fields and its transforms."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.codecs.messages import Malformed
from xproxy.codecs.thrift.dialect import Protocol
from xproxy.codecs.thrift.header import (
    FIXED,
    MEMO_BYTES,
    HeaderFacts,
    read_header,
    undo,
    wrap,
    write_header,
)
from xproxy.model.errors import LocalProtocolError
from xproxy.model.headers import NO_HEADERS, Headers

FIELDS = Headers((("trace", "abc-1"), ("tenant", "blue"), ("trace", "")))


def test_fields_and_transforms_round_trip() -> None:
    block = write_header(Protocol.COMPACT, (1, 1), FIELDS)
    assert len(block) % 4 == 0
    assert read_header(block, 10) == HeaderFacts(2, (1, 1), FIELDS)


@given(st.lists(st.tuples(st.text(max_size=9), st.text(max_size=300)), max_size=9))
def test_any_text_round_trips(pairs: list[tuple[str, str]]) -> None:
    block = write_header(Protocol.STRICT, (), Headers(pairs))
    assert read_header(block, 9).headers == Headers(pairs)


def test_the_reference_writes_the_same() -> None:
    block = bytes.fromhex("00000102057472616365056162632d310674656e616e7404626c7565")
    assert write_header(Protocol.STRICT, (), Headers(FIELDS.pairs[:2])) == block
    assert write_header(Protocol.STRICT, (), NO_HEADERS) == bytes(4)


def test_bytes_that_are_no_text_are_kept() -> None:
    block = b"\0\0\1\1\1k\2\xff\xfe\0\0\0"
    headers = read_header(block, 9).headers
    assert read_header(write_header(Protocol.STRICT, (), headers), 9).headers == headers
    assert write_header(Protocol.STRICT, (), headers)[:9] == block[:9]


def test_sticky_fields_count_and_unknown_blocks_end_it() -> None:
    assert read_header(b"\0\0\2\1\1k\1v\1\1\1a\1b\0", 9).headers == Headers(
        (("k", "v"), ("a", "b"))
    )
    assert read_header(b"\0\0\x09garbage\xff\xff", 9).headers is NO_HEADERS


@pytest.mark.parametrize(
    ("block", "what"),
    [
        (b"", "ends inside"),
        (b"\1\0\0\0", "protocol 1"),
        (b"\0\1\2\0", "transform 2"),
        (b"\0\5\1\1\1\1\1\0", "5 transforms"),
        (b"\0\0\1\4\1k\1v", "more than 3"),
        (b"\0\0\1\1\1k\x7fv", "ends behind"),
        (b"\0\0\1\xff\xff\xff\xff\x0f", "more than 3"),
        (b"\0\0\1\xff\xff\xff\xff\xff\x0f", "varint"),
    ],
)
def test_what_is_no_header(block: bytes, what: str) -> None:
    with pytest.raises(Malformed, match=what):
        read_header(block, 3)


@given(st.binary(max_size=60))
def test_any_header_is_read_or_refused(block: bytes) -> None:
    try:
        read_header(block, 5)
    except Malformed:
        pass


def test_what_cannot_be_written() -> None:
    with pytest.raises(LocalProtocolError, match="json"):
        write_header(Protocol.JSON, (), NO_HEADERS)
    with pytest.raises(LocalProtocolError, match="limit 262140"):
        write_header(Protocol.STRICT, (), Headers((("k", "v" * 300_000),)))
    with pytest.raises(LocalProtocolError, match="no text"):
        write_header(Protocol.STRICT, (), Headers((("k", "\ud800"),)))


def test_long_headers_are_read_too() -> None:
    headers = Headers((("k", "v" * 2 * MEMO_BYTES),))
    assert read_header(write_header(Protocol.STRICT, (), headers), 9).headers == headers


def test_transforms_are_applied_and_undone() -> None:
    block = write_header(Protocol.STRICT, (1, 1), NO_HEADERS)
    frame = wrap(b"payload" * 100, 5, 7, block, (1, 1))
    assert int.from_bytes(frame[:4]) == len(frame) - 4
    assert undo(frame[FIXED + len(block) :], (1, 1), 700) == b"payload" * 100


@pytest.mark.parametrize(
    "payload",
    [b"", b"no zlib", zlib.compress(b"x" * 50)[:-3], zlib.compress(b"x") + b"more"],
)
def test_what_does_not_unpack(payload: bytes) -> None:
    with pytest.raises(Malformed):
        undo(payload, (1,), 1000)


def test_a_bomb_is_not_unpacked() -> None:
    bomb = zlib.compress(bytes(50_000_000))
    with pytest.raises(Malformed, match="more than 1000 bytes"):
        undo(bomb, (1,), 1000)
