"""Chunked bodies: sizes, extensions, trailers, in every cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codecs.http1.driving import cuts
from xproxy.codecs.http1.block import Refused
from xproxy.codecs.http1.chunked import ChunkReader, Phase
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS


def read(pieces: list[bytes]) -> tuple[bytes, Headers, bytes]:
    """Return (body, trailers, what lies behind)."""
    reader = ChunkReader(DEFAULT_LIMITS)
    body: list[bytes] = []
    held = b""
    for piece in pieces:
        held += piece
        held = held[reader.read(held, 0, body) :]
    assert reader.phase is Phase.DONE
    return b"".join(body), reader.trailers, held


@pytest.mark.parametrize(
    ("wire", "body", "trailers"),
    [
        (b"0\r\n\r\n", b"", []),
        (b"000\r\n\r\n", b"", []),
        (b"3\r\nabc\r\n0\r\n\r\n", b"abc", []),
        (b"0000000000000003\r\nabc\r\n0\r\n\r\n", b"abc", []),
        (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2, []),
        (b"3;a\r\nabc\r\n0;b=c\r\n\r\n", b"abc", []),
        (b'3;a="\xff\t;"\r\n\r\n\r\r\n0\r\n\r\n', b"\r\n\r", []),
        (b"3;" + b"e" * 255 + b"\r\nabc\r\n0\r\n\r\n", b"abc", []),
        (b"0\r\nX-Sum: 1\r\nx-sum:\t2 \r\n\r\n", b"", [("X-Sum", "1"), ("x-sum", "2")]),
        (
            b"0\r\nContent-Length: 3\r\nHost: b\r\nCookie: c\r\nTransfer-Encoding: chunked\r\nA: 1\r\n\r\n",
            b"",
            [("A", "1")],
        ),
    ],
)
def test_a_body_reads_the_same_in_every_cut(
    wire: bytes, body: bytes, trailers: list[tuple[str, str]]
) -> None:
    for pieces in cuts(wire):
        assert read(pieces) == (body, Headers(trailers), b"")
        assert read([*pieces[:-1], pieces[-1] + b"0\r\n\r\n"])[2] == b"0\r\n\r\n"


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.data())
def test_any_cut_of_any_chunks_gives_the_body(chunks: list[bytes], data: st.DataObject) -> None:
    wire = b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n"
    points = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=4)))
    pieces = [wire[a:b] for a, b in zip([0, *points], [*points, len(wire)], strict=True)]
    assert read(pieces)[0] == b"".join(chunks)


def test_good_chunks_before_a_bad_one_are_not_lost() -> None:
    body: list[bytes] = []
    with pytest.raises(Refused):
        ChunkReader(DEFAULT_LIMITS).read(b"1\r\na\r\n1\r\nb\r\nx\r\n", 0, body)
    assert body == [b"a", b"b"]


def test_only_a_part_of_a_line_waits() -> None:
    reader = ChunkReader(DEFAULT_LIMITS)
    body: list[bytes] = []
    wire = b"400\r\n" + b"x" * 600
    assert reader.read(wire, 0, body) == len(wire)
    assert (reader.phase, reader.left) == (Phase.DATA, 0x400 - 600)
