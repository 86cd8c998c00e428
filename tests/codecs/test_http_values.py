"""Lengths and authorities: what is one, and what only looks like one."""

from __future__ import annotations

import pytest

from xproxy.codecs.http_values import MAX_LENGTH, authority_valid, parse_length


@pytest.mark.parametrize(
    "text",
    ["a", "A-b_c.d~", "a:", "a:80", "192.0.2.1:65535", "[::1]", "[fe80::1%25eth0]:1", "a%20b"],
)
def test_authorities(text: str) -> None:
    assert authority_valid(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":80",
        "a b",
        "a/b",
        "a@b",
        "a,b",
        "a:b",
        "a:1:2",
        "a:65536",
        "[::1",
        "a]",
        "a%2",
        "a\u00e9",
        "a" * 300,
    ],
)
def test_what_is_no_authority(text: str) -> None:
    assert not authority_valid(text)


@pytest.mark.parametrize("value", [0, 7, MAX_LENGTH])
def test_lengths(value: int) -> None:
    assert parse_length(str(value)) == value
    assert parse_length(f"00{value}"[:19]) >= 0


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", " 1", "1 ", "1_0", "0x1", "1,1", "\u0661", "9" * 19, "1" * 20]
)
def test_what_is_no_length(text: str) -> None:
    with pytest.raises(ValueError, match="Content-Length"):
        parse_length(text)
