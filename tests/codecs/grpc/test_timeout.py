"""``grpc-timeout``."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xproxy.codecs.grpc.timeout import format_timeout, parse_timeout, says


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1H", 3600.0),
        ("2M", 120.0),
        ("3S", 3.0),
        ("250m", 0.25),
        ("99999999u", 99.999999),
        ("1n", 1e-9),
        ("0S", 0.0),
        ("00000001S", 1.0),
        ("99999999H", 99_999_999 * 3600.0),
    ],
)
def test_each_unit_is_read(text: str, seconds: float) -> None:
    assert parse_timeout(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "S", "1", "1s", "-1S", "+1S", "1 S", "1.5S", "123456789S", "1SS", "٣S"]
)
def test_what_is_no_timeout_says_nothing(text: str) -> None:
    assert parse_timeout(text) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.25, "250000u"),
        (1.0, "1000000u"),
        (99.0, "99000000u"),
        (100.0, "100000m"),
        (99_999.0, "99999000m"),
        (100_000.0, "100000S"),
        (1e8, "1666667M"),
        (1e10, "2777778H"),
        (1e20, "99999999H"),
        (0.0, "1u"),
        (-5.0, "1u"),
        (1e-9, "1u"),
    ],
)
def test_the_finest_unit_that_holds_it_is_written(seconds: float, text: str) -> None:
    assert format_timeout(seconds) == text


@settings(max_examples=200)
@given(st.floats(0, 1e11))
def test_what_was_written_reads_as_no_less_and_hardly_more(seconds: float) -> None:
    read = parse_timeout(format_timeout(seconds))
    assert read is not None
    assert read >= seconds * (1 - 1e-9) - 1e-11
    assert read <= seconds * 1.001 + 1e-6


def test_whether_fields_say_a_deadline() -> None:
    pairs = [("a", "b"), ("Grpc-Timeout", "2S")]
    assert says(pairs, 2.0)
    assert not says(pairs, 1.0)
    assert not says(pairs[:1], 2.0)
