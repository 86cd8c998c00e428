"""Upgrades: which wish is one, and the handshake of RFC 6455."""

from __future__ import annotations

import base64

import pytest

from xproxy.codecs.http_upgrade import accept_for, asked, granted, key_of, made_key, without
from xproxy.model.headers import Headers

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""RFC 6455 §1.3."""


def handshake(
    *extra: tuple[str, str], key: str | None = KEY, version: str | None = "13"
) -> Headers:
    pairs = [("Sec-WebSocket-Key", key), ("Sec-WebSocket-Version", version)]
    return Headers([(name, value) for name, value in pairs if value is not None] + list(extra))


def test_the_accept_value_of_the_rfc() -> None:
    assert accept_for(KEY) == ACCEPT
    assert asked("websocket", handshake()) == ("websocket", ACCEPT)


def test_a_wish_has_no_case_and_other_protocols_no_handshake() -> None:
    assert asked("WebSocket", handshake()) == ("websocket", ACCEPT)
    assert asked("Custom-1", Headers()) == ("custom-1", "")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "websocket, h2c",
        "h2c, websocket",
        "websocket,websocket",
        "websocket/13",
        "TLS/1.0",
        "HTTP/2.0",
        "h2c",
        "H2C",
        "h2",
        "a b",
        "x" * 65,
    ],
)
def test_lists_versions_and_other_versions_of_http_are_no_wish(value: str) -> None:
    assert asked(value, handshake()) == ("", "")


@pytest.mark.parametrize(
    "headers",
    [
        handshake(key=None),
        handshake(key=""),
        handshake(key="c2hvcnQ="),
        handshake(key=KEY + "x"),
        handshake(key=KEY.replace("Q==", "R==")),  # bits that stand for nothing
        handshake(("sec-websocket-key", KEY)),
        handshake(("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==")),
        handshake(key=f"{KEY}, {KEY}"),
        handshake(version=None),
        handshake(version="8"),
        handshake(version="13, 8"),
        handshake(("Sec-WebSocket-Version", "13")),
    ],
    ids=str,
)
def test_a_websocket_without_a_plain_handshake_is_no_wish(headers: Headers) -> None:
    assert asked("websocket", headers) == ("", "")


def test_a_made_key_is_one_and_depends_on_its_request_alone() -> None:
    assert made_key(b"one") == made_key(b"one")
    assert made_key(b"one") != made_key(b"two")
    assert len(base64.b64decode(made_key(b"one"), validate=True)) == 16
    assert key_of(handshake(key=made_key(b"one"))) == made_key(b"one")


def test_a_grant_names_one_protocol() -> None:
    assert granted("WebSocket") == "websocket"
    assert granted("websocket, x") == granted("a/1") == granted("") == ""


def test_fields_are_left_out_whatever_their_case() -> None:
    headers = Headers([("A", "1"), ("Sec-WebSocket-KEY", "x")])
    assert list(without(headers, frozenset({"sec-websocket-key"}))) == [("A", "1")]
