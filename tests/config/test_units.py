"""Durations and sizes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.config.units import (
    duration_suggestion,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
    size_suggestion,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("3s", 3), ("5m", 300), ("1h", 3600), ("0", 0), ("1.5s", 1.5), ("0s", 0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "3", "s", "-1s", "1 s", "1S", "1d", "1e3s", "1s\n", "١s", "1h30m", "9999999999s"]
)
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration such as"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("512B", 512), ("64KiB", 65536), ("1MiB", 1048576), ("2GiB", 2**31), ("0", 0)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "1", "1KB", "1k", "-1B", "1.5MiB", "1 MiB", "1B\n", "٣B"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="expected a size such as"):
        parse_size(text)


def test_suggestions() -> None:
    assert duration_suggestion("3") == "3s"
    assert duration_suggestion("3 sec") == "3s"
    assert duration_suggestion("3 parsecs") == ""
    assert size_suggestion("64kb") == "64KiB"
    assert size_suggestion("512") == "512B"
    assert size_suggestion("big") == ""


@given(st.integers(0, 10**9))
def test_formatted_durations_read_back(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == pytest.approx(
        milliseconds / 1000
    )


@given(st.integers(0, 10**12 - 1))
def test_formatted_sizes_read_back(size: int) -> None:
    assert parse_size(format_size(size)) == size


def test_formats_are_the_shortest() -> None:
    assert [format_duration(s) for s in (0, 0.025, 1.5, 60, 90, 7200)] == [
        "0",
        "25ms",
        "1500ms",
        "1m",
        "90s",
        "2h",
    ]
    assert [format_size(s) for s in (0, 1000, 1024, 2**30)] == ["0", "1000B", "1KiB", "1GiB"]
