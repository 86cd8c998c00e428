"""Heads that are right: what becomes of each of their parts."""

from __future__ import annotations

import pytest

from xproxy.codecs.http1.head import (
    parse_request,
    parse_response,
    parse_trailers,
)
from xproxy.codecs.http1.state import CONNECT, HEAD_METHOD, HTTP10, PERSISTENT
from xproxy.codecs.http_values import MAX_LENGTH
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import Target
from xproxy.model.status import Status


def head(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n"


def fields_of(text: str) -> list[tuple[str, str]]:
    return list(
        parse_request(head(f"GET / HTTP/1.1\nHost: a\n{text}"), DEFAULT_LIMITS).message.headers
    )


@pytest.mark.parametrize(
    ("line", "service", "target"),
    [
        ("GET /", "h:1", Target(path="/")),
        ("GET /a?b=c%20d;e", "h:1", Target(path="/a?b=c%20d;e")),
        ("GET //x/../y", "h:1", Target(path="//x/../y")),
        ("GET /\u00e9", "h:1", Target(path="/\u00e9")),
        ("OPTIONS *", "h:1", Target(path="*")),
        ("GET http://b:2/x?y", "b:2", Target(path="/x?y")),
        ("GET HTTPS://b/x", "b", Target(path="/x", scheme="https")),
        ("GET http://b", "b", Target(path="/")),
        ("GET http://b?q", "b", Target(path="/?q")),
        ("OPTIONS http://b", "b", Target(path="*")),
        ("GET http://[2001:db8::1]:80/", "[2001:db8::1]:80", Target(path="/")),
        ("CONNECT b:443", "b:443", Target(path="")),
        ("CONNECT [::1]:443", "[::1]:443", Target(path="")),
    ],
)
def test_targets(line: str, service: str, target: Target) -> None:
    message = parse_request(head(f"{line} HTTP/1.1\nHost: h:1"), DEFAULT_LIMITS).message
    assert (message.service, message.extra) == (service, target)
    assert message.method == line.split(" ")[0]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Accept: */*\naccept:x\nX:", [("Accept", "*/*"), ("accept", "x"), ("X", "")]),
        ("X: \t a\tb  c \t", [("X", "a\tb  c")]),
        ("X: \u00e9\u00ff", [("X", "\u00e9\u00ff")]),
        ("Connection: close\nA: 1", [("A", "1")]),
        ("Connection: X-A, x-b\nX-A: 1\nx-A: 2\nX-B: 3\nX-C: 4", [("X-C", "4")]),
        ("X-A: 1\nConnection: a\nConnection: ,x-a,", []),
        (
            "Connection: keep-alive\nKeep-Alive: timeout=5\nProxy-Connection: close\nA: 1",
            [("A", "1")],
        ),
        ("Upgrade: h2c\nHTTP2-Settings: AA\nConnection: Upgrade, HTTP2-Settings", []),
        ("Proxy-Authorization: Basic x\nAuthorization: y", [("Authorization", "y")]),
        ("TE: trailers", [("TE", "trailers")]),
        ("TE: gzip, Trailers ;q=1", []),
        ("TE: gzip, Trailers\nConnection: TE", [("TE", "trailers")]),
        (
            "Trailer: X-Sum\nExpect: 100-Continue",
            [("Trailer", "X-Sum"), ("Expect", "100-Continue")],
        ),
        ("Content-Length: 007", [("Content-Length", "007")]),
        ("Transfer-Encoding: CHUNKED", []),
    ],
)
def test_fields_of_the_hop_stay_behind(text: str, kept: list[tuple[str, str]]) -> None:
    assert fields_of(text) == kept


@pytest.mark.parametrize(
    ("line", "fields", "flags"),
    [
        ("GET / HTTP/1.1", "", PERSISTENT),
        ("GET / HTTP/1.9", "", PERSISTENT),
        ("HEAD / HTTP/1.1", "", PERSISTENT | HEAD_METHOD),
        ("CONNECT a:1 HTTP/1.1", "", PERSISTENT | CONNECT),
        ("GET / HTTP/1.1", "Connection: Close", 0),
        ("GET / HTTP/1.1", "Connection: keep-alive, close", 0),
        ("GET / HTTP/1.1", "Connection: x\nConnection: close", 0),
        ("GET / HTTP/1.0", "", HTTP10),
        ("GET / HTTP/1.0", "Connection: Keep-Alive", HTTP10 | PERSISTENT),
        ("GET / HTTP/1.0", "Connection: x, keep-alive", HTTP10 | PERSISTENT),
        ("GET / HTTP/1.0", "Connection: keep-alive, close", HTTP10),
        ("GET / HTTP/1.0", "Proxy-Connection: keep-alive", HTTP10),
    ],
)
def test_what_is_said_about_the_connection_becomes_flags(
    line: str, fields: str, flags: int
) -> None:
    text = f"{line}\nHost: a" + (f"\n{fields}" if fields else "")
    assert parse_request(head(text), DEFAULT_LIMITS).flags == flags


def test_the_length_of_a_body() -> None:
    for value in (0, 1, MAX_LENGTH):
        parsed = parse_request(
            head(f"PUT / HTTP/1.1\nHost: a\nContent-Length: {value}"), DEFAULT_LIMITS
        )
        assert (parsed.length, parsed.chunked) == (value, False)
        assert bool(parsed.whole) == (value == 0)
    parsed = parse_request(
        head("PUT / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked"), DEFAULT_LIMITS
    )
    assert (parsed.length, parsed.chunked) == (-1, True)


def test_old_clients() -> None:
    message = parse_request(head("GET / HTTP/1.0\nExpect: whatever"), DEFAULT_LIMITS).message
    assert message.service == ""
    assert message.headers == Headers()
    assert message.extra == Target(path="/", version="1.0")


@pytest.mark.parametrize(
    ("text", "length", "chunked", "persistent"),
    [
        ("HTTP/1.1 200 OK\nContent-Length: 5", 5, False, True),
        ("HTTP/1.1 200 OK\nContent-Length: 5\nConnection: close", 5, False, False),
        ("HTTP/1.0 200 OK\nContent-Length: 5", 5, False, False),
        ("HTTP/1.0 200 OK\nContent-Length: 5\nConnection: keep-alive", 5, False, True),
        ("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", -1, True, True),
        ("HTTP/1.1 200 OK", -1, False, True),
        ("HTTP/1.1 204 No Content\nTransfer-Encoding: chunked", 0, False, True),
        ("HTTP/1.1 304 Not Modified\nContent-Length: 5", 0, False, True),
        ("HTTP/1.1 103 Early Hints\nContent-Length: 5", -1, False, True),
    ],
)
def test_the_framing_of_responses(text: str, length: int, chunked: bool, persistent: bool) -> None:
    parsed = parse_response(head(text), DEFAULT_LIMITS)
    assert (parsed.length, parsed.chunked, parsed.persistent) == (length, chunked, persistent)


def test_a_length_without_a_body_travels_only_where_it_means_something() -> None:
    for code, kept in ((103, False), (204, False), (304, True), (200, True)):
        message = parse_response(
            head(f"HTTP/1.1 {code} X\nContent-Length: 5"), DEFAULT_LIMITS
        ).message
        assert ("content-length" in message.headers) == kept


@pytest.mark.parametrize(
    ("text", "code", "status"),
    [
        ("HTTP/1.1 200 ", 200, Status.OK),
        ("HTTP/1.1 200", 200, Status.OK),
        ("HTTP/1.1 999 What \u00e9ver\t", 999, Status.UNKNOWN),
        ("HTTP/1.1 503 X", 503, Status.UNAVAILABLE),
        ("HTTP/1.1 503 X\nRetry-After: 1", 503, Status.RESOURCE_EXHAUSTED),
    ],
)
def test_status_lines(text: str, code: int, status: Status) -> None:
    message = parse_response(head(text), DEFAULT_LIMITS).message
    assert (message.native_status, message.status) == (code, status)


def test_trailers_bring_nothing_that_belongs_before_the_body() -> None:
    text = "X: 1\nAuthorization: a\nContent-Type: b\nSet-Cookie: c\nTransfer-Encoding: d\nX: 2"
    assert parse_trailers(head(text), DEFAULT_LIMITS) == Headers([("X", "1"), ("X", "2")])
