"""Lengths and authorities: what is one, and what only looks like one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.codecs.api import NO_HINT, VerdictKind
from xproxy.codecs.http1.block import Refused
from xproxy.codecs.http1.head import parse_request as parse_http1
from xproxy.codecs.http1.plugin import Http1Plugin
from xproxy.codecs.http2.faults import Malformed
from xproxy.codecs.http2.head import parse_request as parse_http2
from xproxy.codecs.http_fields import TOKEN
from xproxy.codecs.http_values import MAX_LENGTH, authority_valid, method_valid, parse_length
from xproxy.model.limits import DEFAULT_LIMITS


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


METHODS = st.text("GETaz0-! PRI", max_size=8) | st.sampled_from(
    ["GET", "get", "Get", "head", "Head", "connect", "PRI", "M-SEARCH", "A" * 32, "A" * 33, ""]
)


@given(METHODS)
def test_every_version_of_http_takes_the_same_methods(method: str) -> None:
    def http1() -> int:
        try:
            parse_http1(f"{method} /x HTTP/1.1\r\nHost: a\r\n\r\n".encode(), DEFAULT_LIMITS)
        except Refused as refused:
            return refused.code
        return 200

    def http2() -> int:
        pseudo = [(":method", method), (":scheme", "http"), (":path", "/x"), (":authority", "a")]
        try:
            parse_http2(pseudo, DEFAULT_LIMITS, extended=False)
        except Malformed as malformed:
            return malformed.answer
        return 200

    if method == "CONNECT" or " " in method:
        return
    assert http1() == (200 if method_valid(method) else 400)
    # What is no token at all is a stream error in HTTP/2 (RFC 9113 §8.1.1).
    assert http2() == (http1() if TOKEN.fullmatch(method) else 0)
    if method_valid(method):
        assert method == method.upper()
        assert (
            Http1Plugin().detect(f"{method} /x HTTP/1.1\r\n".encode(), NO_HINT).kind
            is VerdictKind.YES
        )
