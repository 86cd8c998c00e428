"""ByteBuffer finds what it is asked for, however the bytes came, within its bound and in linear time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import times
from xproxy.codecs.buffer import ByteBuffer, TooLong


def test_lines_come_out_one_by_one() -> None:
    buffer = ByteBuffer(b"one\r\ntwo\r")
    assert buffer.take_until(b"\r\n", 100) == b"one"
    assert buffer.take_until(b"\r\n", 100) is None
    buffer.feed(b"\nthree")
    assert buffer.take_until(b"\r\n", 100) == b"two"
    assert (len(buffer), bytes(buffer), buffer.peek(2, 1)) == (5, b"three", b"hr")


def test_another_marker_is_searched_from_the_front() -> None:
    buffer = ByteBuffer(b"a;b")
    assert buffer.find(b"\n", 100) == -1
    assert buffer.find(b";", 100) == 2


def test_a_marker_beyond_the_bound_is_refused_early() -> None:
    buffer = ByteBuffer(b"x" * 9)
    assert buffer.find(b"\n", 10) == -1
    buffer.feed(b"x")
    with pytest.raises(TooLong, match="10 bytes without an end, limit 10"):
        buffer.find(b"\n", 10)
    assert ByteBuffer(b"x" * 9 + b"\n").find(b"\n", 10) == 10


def test_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        ByteBuffer().find(b"", 1)
    with pytest.raises(ValueError, match="2 bytes asked for, 1 held"):
        ByteBuffer(b"x").take(2)
    with pytest.raises(ValueError, match="-1 bytes"):
        ByteBuffer(b"x").take(-1)


@settings(max_examples=200)
@given(
    lines=st.lists(
        st.binary(max_size=20).filter(lambda line: b"\r\n" not in line + b"\r"), max_size=9
    ),
    cuts=st.lists(st.integers(1, 40), max_size=10),
)
def test_cuts_cannot_be_seen(lines: list[bytes], cuts: list[int]) -> None:
    # A line that ends in CR would make its end ambiguous.
    lines = [line.rstrip(b"\r") for line in lines]
    data = b"".join(line + b"\r\n" for line in lines)
    buffer, found, at = ByteBuffer(), [], 0
    for cut in [*cuts, len(data)]:
        buffer.feed(data[at : at + cut])
        at += cut
        while (line := buffer.take_until(b"\r\n", 1000)) is not None:
            found.append(line)
    assert found == lines
    assert len(buffer) == 0


def test_many_lines_in_one_read_cost_linear_time() -> None:
    def taking(count: int) -> Callable[[], object]:
        buffer = ByteBuffer(b"line\n" * count)

        def take() -> None:
            while buffer.take_until(b"\n", 100) is not None:
                pass

        return take

    assert times(taking, 40_000, 10_000, 12) < 12
