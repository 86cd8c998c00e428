"""Runs of tiny pieces: found whole, taken apart exactly, in the codecs that use them too."""

from __future__ import annotations

from collections.abc import Callable

import hpack
from hypothesis import given
from hypothesis import strategies as st

from tests.effort import times
from xproxy.codecs.http1.chunked import ChunkReader, Phase
from xproxy.codecs.http2.wire import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    SETTINGS_ACK,
    frame,
    settings,
)
from xproxy.codecs.runs import BLOCK, TINY, joined, run_length
from xproxy.model.frames import Data
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.traits import Role
from xproxy.registry import default_registry

# Bodies as those cut them who want to cost much: long runs of one size, and other sizes between.
BODIES = st.lists(
    st.tuples(
        st.integers(1, TINY + 4), st.sampled_from([1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
    ),
    min_size=1,
    max_size=6,
)


def pieces_of(body: list[tuple[int, int]]) -> list[bytes]:
    """Give pieces that all differ, of sizes with their numbers of times."""
    sizes = [size for size, times in body for _ in range(times)]
    return [bytes((at * 7 + n) & 0xFF for n in range(size)) for at, size in enumerate(sizes)]


@given(
    st.binary(max_size=6),
    st.integers(1, TINY),
    st.binary(max_size=3),
    st.integers(0, 100),
    st.binary(),
)
def test_a_run_ends_where_the_next_piece_differs(
    head: bytes, size: int, tail: bytes, count: int, rest: bytes
) -> None:
    pieces = [bytes([n & 0xFF]) * size for n in range(count)]
    data = b"".join(head + piece + tail for piece in pieces) + rest
    found = run_length(data, 0, head, size, tail)
    assert found % BLOCK == 0
    assert found >= count // BLOCK * BLOCK
    sure = count // BLOCK * BLOCK
    assert joined(data, 0, sure, len(head), size, len(tail)) == b"".join(pieces[:sure])
    unit = len(head) + size + len(tail)
    for at in range(0, found * unit, unit):
        assert data[at : at + len(head)] == head
        assert data[at + unit - len(tail) : at + unit] == tail


@given(st.integers(0, 10 * BLOCK), st.integers(-3, 10 * BLOCK))
def test_no_more_is_looked_at_than_can_be_taken(count: int, most: int) -> None:
    data = b"hx" * count
    found = run_length(data, 0, b"h", 1, most=most)
    assert found == max(0, min(count, most)) // BLOCK * BLOCK


def test_a_run_beyond_the_window_costs_no_more_than_its_frames() -> None:
    encoder = hpack.Encoder()
    pairs = ((":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a"))
    start = PREFACE + settings(()) + SETTINGS_ACK
    start += frame(HEADERS, END_HEADERS, 1, encoder.encode(pairs))

    def taking(count: int) -> Callable[[], object]:
        # Nobody takes any of it, and the last frames are beyond the window.
        codec = default_registry().codec("http2").open(Role.SERVER, DEFAULT_LIMITS)
        codec.receive(start)
        for left in range(65536 - count, 0, -16384):
            codec.receive(frame(DATA, 0, 1, bytes(min(left, 16384))))
        run = frame(DATA, 0, 1, b"x") * (count + 2 * BLOCK)
        return lambda: codec.receive(run)

    assert times(taking, 20_000, 1_000, 120) < 120, "linear: 20 times as many"


@given(BODIES, st.lists(st.integers(1, 4000), max_size=4), st.sampled_from(["%x", "%X", "0%x"]))
def test_chunks_of_any_sizes_are_read_as_they_were_cut(
    body: list[tuple[int, int]], cuts: list[int], digits: str
) -> None:
    pieces = pieces_of(body)
    raw = (
        b"".join((digits % len(p)).encode() + b"\r\n" + p + b"\r\n" for p in pieces) + b"0\r\n\r\n"
    )
    reader = ChunkReader(DEFAULT_LIMITS)
    got: list[bytes] = []
    rest = b""
    ends = sorted({min(cut, len(raw)) for cut in cuts} | {len(raw)})
    for start, end in zip([0, *ends], ends, strict=False):
        source = bytearray(rest + raw[start:end])
        rest = bytes(source[reader.read(source, 0, got) :])
    assert reader.phase is Phase.DONE
    assert b"".join(got) == b"".join(pieces)


@given(BODIES, st.booleans())
def test_data_frames_of_any_sizes_are_read_as_one_by_one(
    body: list[tuple[int, int]], two: bool
) -> None:
    def post(stream_id: int) -> bytes:
        encoder = hpack.Encoder()
        encoder.header_table_size = 0
        pairs = ((":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a"))
        return frame(HEADERS, END_HEADERS, stream_id, encoder.encode(pairs))

    first = PREFACE + settings(()) + SETTINGS_ACK + post(1) + post(3)
    pieces = pieces_of(body)
    frames = [frame(DATA, 0, 3 if two and n & 1 else 1, p) for n, p in enumerate(pieces)]
    frames += [frame(DATA, END_STREAM, 1, b""), frame(DATA, END_STREAM, 3, b"")]
    plugin = default_registry().codec("http2")
    seen = []
    for reads in ([b"".join(frames)], frames):
        codec = plugin.open(Role.SERVER, DEFAULT_LIMITS)
        codec.receive(first)
        bodies = {1: b"", 3: b""}
        ended = []
        for read in reads:
            for got in codec.receive(read):
                assert isinstance(got, Data)
                assert got.stream_id not in ended
                bodies[got.stream_id] += got.data
                ended += [got.stream_id] if got.end else []
        assert sorted(ended) == [1, 3]
        seen.append((bodies, codec.snapshot()))  # type: ignore[attr-defined]  # HTTP/2 has it
    assert seen[0] == seen[1], "the windows are the same too"
    sent = {1: pieces[0::2], 3: pieces[1::2]} if two else {1: pieces, 3: []}
    assert seen[0][0] == {k: b"".join(v) for k, v in sent.items()}
