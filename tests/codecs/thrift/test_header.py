"""THeader's header, its fields and its transforms."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.codecs.message_wire import Malformed
from xproxy.codecs.slices import at_once
from xproxy.codecs.thrift.dialect import Protocol
from xproxy.codecs.thrift.header import (
    FIXED,
    MEMO_BYTES,
    UNPACKED_AT_ONCE,
    HeaderFacts,
    deflating,
    pack,
    pack_deflated,
    read_header,
    undo,
    wrap,
    write_header,
)
from xproxy.model.errors import LocalProtocolError
from xproxy.model.headers import NO_HEADERS, Headers


def unpacked(payload: bytes, limit: int) -> bytes:
    return at_once(undo(payload, limit))


FIELDS = Headers((("trace", "abc-1"), ("tenant", "blue"), ("trace", "")))


def test_fields_and_transforms_round_trip() -> None:
    block = write_header(Protocol.COMPACT, (1,), FIELDS)
    assert len(block) % 4 == 0
    assert read_header(block, 10) == HeaderFacts(2, (1,), FIELDS)


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
    block = write_header(Protocol.STRICT, (1,), NO_HEADERS)
    frame = wrap(pack(b"payload" * 100, (1,)), 5, 7, block)
    assert int.from_bytes(frame[:4]) == len(frame) - 4
    assert unpacked(frame[FIXED + len(block) :], 700) == b"payload" * 100


@pytest.mark.parametrize(
    "payload",
    [b"", b"no zlib", zlib.compress(b"x" * 50)[:-3], zlib.compress(b"x") + b"more"],
)
def test_what_does_not_unpack(payload: bytes) -> None:
    with pytest.raises(Malformed):
        unpacked(payload, 1000)


@given(
    st.binary(max_size=3000),
    st.integers(1, 200),
    st.sampled_from([b"", b"more"]),
    st.integers(0, 3),
)
def test_it_takes_one_whole_stream_of_zlib_and_nothing_else(
    data: bytes, repeat: int, behind: bytes, cut: int
) -> None:
    data *= repeat
    payload = pack(data, (1,))
    payload = payload[: len(payload) - cut] + behind
    if cut or behind:
        with pytest.raises(Malformed, match="zlib"):
            unpacked(payload, 1 << 20)
    else:
        assert unpacked(payload, 1 << 20) == data


@given(st.binary(min_size=1, max_size=5000), st.integers(1, 40), st.integers(0, 9))
def test_however_badly_it_is_packed(data: bytes, flushes: int, level: int) -> None:
    deflater = zlib.compressobj(level)
    size = -(-len(data) // flushes)
    parts = []
    for at in range(0, len(data), size):
        parts += [deflater.compress(data[at : at + size]), deflater.flush(zlib.Z_SYNC_FLUSH)]
    assert unpacked(b"".join([*parts, deflater.flush()]), 5000) == data


@given(st.binary(max_size=100), st.binary(max_size=3000), st.integers(1, 40))
def test_what_was_deflated_before_is_packed_like_the_rest(
    start: bytes, data: bytes, repeat: int
) -> None:
    data *= repeat
    pauses, deflated = 0, b""
    work = deflating(data)
    while True:
        try:
            next(work)
        except StopIteration as done:
            deflated = done.value
            break
        pauses += 1
    assert pauses >= len(data) // (32 * 1024)
    packed = pack_deflated(start, data, deflated)
    assert unpacked(packed, 200_000) == start + data


def test_what_makes_next_to_nothing_is_refused_early() -> None:
    # Empty blocks of deflate: 16 MiB of them would take a second.
    payload = zlib.compress(b"")[:2] + b"\0\0\0\xff\xff" * (1 << 18)
    with pytest.raises(Malformed, match="many times its size"):
        unpacked(payload, 1 << 24)


@pytest.mark.parametrize("byte", [b"a", None])
def test_a_slice_of_it_makes_little(byte: bytes | None) -> None:
    """What one slice makes is bounded, also where next to nothing is taken for it."""
    size = 20 * UNPACKED_AT_ONCE
    data = byte * size if byte else random.Random(1).randbytes(size)
    work = undo(zlib.compress(data), size)
    for _ in range(19):
        next(work)
    assert at_once(work) == data


def test_a_bomb_is_not_unpacked() -> None:
    bomb = zlib.compress(bytes(50_000_000))
    with pytest.raises(Malformed, match="more than 1000 bytes"):
        unpacked(bomb, 1000)
