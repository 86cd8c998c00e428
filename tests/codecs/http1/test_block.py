"""Blocks end where they end, however the bytes come, and a stray line break is seen at once."""

from __future__ import annotations

import pytest

from xproxy.codecs.http1.block import Refused, find_end, lines_of
from xproxy.model.limits import DEFAULT_LIMITS, Limits


def test_searching_goes_on_where_it_stopped() -> None:
    block = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    for size in range(len(block)):
        assert find_end(bytearray(block[:size]), 0, max(size - 1, 0), 100) == -1
    for searched in range(len(block)):
        assert find_end(block + b"more", 0, searched, 100) == len(block)
        assert find_end(b"xx" + block, 2, searched, 100) == 2 + len(block)
    assert find_end(block, 0, 0, len(block)) == len(block)
    with pytest.raises(Refused):
        find_end(block, 0, 0, len(block) - 1)


@pytest.mark.parametrize("block", [b"a\nb", b"a\rb", b"\n", b"a\r\nb\n", b"a\r\r"])
def test_a_stray_line_break_is_found_as_soon_as_it_is_there(block: bytes) -> None:
    with pytest.raises(Refused, match="bare CR or LF"):
        find_end(block, 0, 0, 100)
    with pytest.raises(Refused, match="bare CR or LF"):
        find_end(block, 0, len(block) - 1, 100)
    assert find_end(b"a\r", 0, 0, 100) == -1


def test_lines() -> None:
    assert lines_of(b"a\r\nb: c\r\n\r\n", DEFAULT_LIMITS, 1) == ["a", "b: c"]
    assert lines_of(b"a: \xe9\t\r\n\r\n", DEFAULT_LIMITS, 0) == ["a: \u00e9\t"]


@pytest.mark.parametrize("start_lines", [0, 1])
def test_lines_are_counted_without_the_start_line(start_lines: int) -> None:
    limits = Limits(max_headers=2)
    lines_of(b"a\r\n" * (2 + start_lines) + b"\r\n", limits, start_lines)
    with pytest.raises(Refused) as caught:
        lines_of(b"a\r\n" * (3 + start_lines) + b"\r\n", limits, start_lines)
    assert caught.value.code == 431


@pytest.mark.parametrize("code", [*range(9), *range(11, 13), *range(14, 32), 127])
def test_controls_are_refused(code: int) -> None:
    with pytest.raises(Refused, match="control character"):
        lines_of(b"a: " + bytes([code]) + b"\r\n\r\n", DEFAULT_LIMITS, 0)
