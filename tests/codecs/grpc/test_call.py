"""Content types and paths."""

from __future__ import annotations

import pytest

from xproxy.codecs.grpc.call import (
    NATIVE,
    NO_CALL,
    WEB,
    call_in,
    content_type,
    content_type_of,
    dialect_of,
    is_text,
)
from xproxy.model.message import Rpc


@pytest.mark.parametrize(
    ("given", "dialect", "text"),
    [
        ("application/grpc", NATIVE, False),
        ("application/grpc+proto", NATIVE, False),
        ("Application/GRPC+json", NATIVE, False),
        ("application/grpc;charset=utf-8", NATIVE, False),
        ("application/grpc+proto; v=1", NATIVE, False),
        ("application/grpc-web", WEB, False),
        ("application/grpc-web+proto", WEB, False),
        ("application/grpc-web-text", WEB, True),
        ("application/grpc-web-text+proto", WEB, True),
        ("application/grpcx", "", False),
        ("application/grpc-webs", "", False),
        ("application/grpc-wider", "", False),
        ("application/json", "", False),
        ("text/application/grpc", "", False),
        ("", "", False),
    ],
)
def test_content_types(given: str, dialect: str, text: bool) -> None:
    assert dialect_of(given) == dialect
    assert is_text(given) is text


@pytest.mark.parametrize(
    ("path", "service", "method"),
    [
        ("/package.Service/Method", "package.Service", "Method"),
        ("/package.Service/Method?q=/x", "package.Service", "Method"),
        ("/a/b/Method", "a/b", "Method"),
        ("/Method", "", "Method"),
        ("/", "", ""),
        ("*", "", "*"),
        ("//x", "", "x"),
    ],
)
def test_the_path_is_split_at_its_last_slash(path: str, service: str, method: str) -> None:
    pairs = [("te", "trailers"), ("Content-Type", "application/grpc")]
    assert call_in(pairs, path) == (Rpc(NATIVE, service, method), None)


def test_the_deadline_is_read_with_it() -> None:
    pairs = [("grpc-timeout", "250m"), ("content-type", "application/grpc-web")]
    assert call_in(pairs, "/s/m") == (Rpc(WEB, "s", "m"), 0.25)
    assert call_in([("grpc-timeout", "x"), pairs[1]], "/s/m")[1] is None


def test_what_is_no_call() -> None:
    assert call_in([("content-type", "text/plain"), ("grpc-timeout", "1S")], "/s/m") is NO_CALL
    assert call_in([], "/s/m") is NO_CALL
    assert content_type_of([("content-typo", "x"), ("a", "b")]) == ""


def test_the_message_format_is_kept() -> None:
    assert content_type("application/grpc-web-text+proto", "grpc") == "application/grpc+proto"
    assert content_type("application/grpc", "grpc-web") == "application/grpc-web"
    assert content_type("text/plain", "grpc") == "application/grpc"
