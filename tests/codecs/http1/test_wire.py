"""Heads as bytes: exactly what a message says, and never more lines than it has fields."""

from __future__ import annotations

import pytest

from tests.codecs.http1.driving import request, response
from xproxy.codecs.http1.wire import (
    encode_request,
    encode_response,
    encode_trailers,
    farewell,
)
from xproxy.codecs.http_status import reason_of
from xproxy.model.errors import LocalProtocolError
from xproxy.model.headers import Headers
from xproxy.model.message import Local, Reason, RequestHead, ResponseHead, Target
from xproxy.model.status import Status


def test_a_request() -> None:
    message = request("POST", "/a?b", [("Accept", "*/*"), ("x-Y", "")], service="h:1")
    encoded = encode_request(message)
    assert encoded.prefix == b"POST /a?b HTTP/1.1\r\nHost: h:1\r\nAccept: */*\r\nx-Y: \r\n"
    assert encoded.wants_length
    assert not encoded.simple


def test_what_belongs_to_the_hop_is_not_sent_from_the_message() -> None:
    hop = [
        ("Connection", "x"),
        ("Host", "other"),
        ("Transfer-Encoding", "gzip"),
        ("Upgrade", "h2c"),
        ("Keep-Alive", "1"),
        ("Content-Length", "5"),
        ("Trailer", "X-Sum"),
        ("X", "1"),
    ]
    encoded = encode_request(request(headers=hop))
    assert encoded.prefix == b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n"
    assert encoded.declared == 5
    assert encoded.trailer == b"Trailer: X-Sum\r\n"


def test_wanting_trailers_is_said_for_this_hop() -> None:
    encoded = encode_request(request(headers=[("TE", "trailers"), ("X", "1")]))
    assert encoded.prefix.endswith(b"X: 1\r\nTE: trailers\r\nConnection: TE\r\n")


@pytest.mark.parametrize(
    "message",
    [
        request("G T"),
        request(""),
        request("GET\r\nX: 1"),
        request(path=""),
        request(path="a"),
        request(path="/a b"),
        request(path="/a\r\nX: 1"),
        request(path="/a#b"),
        request(service="a\r\nX: 1"),
        request(service="a b"),
        request("CONNECT", "", service=""),
        request(headers=[("X", "1\r\nY: 2")]),
        request(headers=[("X", "1\nY: 2")]),
        request(headers=[("X", "1\r")]),
        request(headers=[("X", "\0")]),
        request(headers=[("X", "\u2028\n")]),
        request(headers=[("X: 1\r\nY", "2")]),
        request(headers=[("X Y", "2")]),
        request(headers=[("", "2")]),
        request(headers=[("Content-Length", "x")]),
        request(headers=[("Content-Length", "-1")]),
        request(headers=[("Trailer", "a\r\nX: 1")]),
        RequestHead(service="a", method="GET"),
    ],
)
def test_what_would_read_as_something_else_is_not_sent(message: RequestHead) -> None:
    with pytest.raises(LocalProtocolError):
        encode_request(message)


def test_responses() -> None:
    encoded = encode_response(response(404, [("A", "1")]))
    assert encoded.prefix == b"HTTP/1.1 404 Not Found\r\nA: 1\r\n"
    assert encoded.simple
    assert encode_response(response(999)).prefix == b"HTTP/1.1 999 \r\n"
    for code in (100, 204, 304):
        assert encode_response(response(code)).bodyless
    for code in (0, 99, 1000):
        with pytest.raises(LocalProtocolError):
            encode_response(response(code))
    with pytest.raises(LocalProtocolError):
        encode_response(response(200, [("X", "a\r\n\r\n<html>")]))


def test_text_of_other_protocols_keeps_its_bytes() -> None:
    fields = [("L", "\u00e9"), ("U", "\u20ac"), ("S", "\udce2\udc82")]
    assert encode_response(response(200, fields)).prefix.endswith(
        b"L: \xe9\r\nU: \xe2\x82\xac\r\nS: \xe2\x82\r\n"
    )


def test_a_reply_made_here_says_why() -> None:
    message = ResponseHead(
        status=Status.RESOURCE_EXHAUSTED,
        extra=Local(detail="no more than 9 at once", reason=Reason.RATE_LIMITED, retry_after=3),
    )
    encoded = encode_response(message)
    assert encoded.prefix == b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\n"
    assert encoded.local_body == b"no more than 9 at once\n"
    silent = encode_response(ResponseHead(status=Status.NOT_FOUND))
    assert silent.local_body == b"Not Found\n"
    assert not encode_response(ResponseHead(status=Status.OK)).local_body


def test_a_reply_made_here_keeps_its_own_fields() -> None:
    headers = Headers([("Retry-After", "9"), ("Content-Type", "a/b")])
    encoded = encode_response(ResponseHead(status=Status.RESOURCE_EXHAUSTED, headers=headers))
    assert encoded.prefix.count(b"Retry-After") == 1
    assert encoded.text_type == b""


def test_trailers() -> None:
    headers = Headers([("X", "1"), ("Content-Length", "3"), ("authorization", "x"), ("Y", "2")])
    assert encode_trailers(headers) == b"0\r\nX: 1\r\nY: 2\r\n\r\n"
    for bad in (("X", "1\r\n"), ("X Y", "1"), ("", "1")):
        with pytest.raises(LocalProtocolError):
            encode_trailers(Headers([bad]))


def test_a_farewell_is_a_whole_response() -> None:
    wire = farewell(431, "head is above 10 bytes", bodyless=False)
    head, _, body = wire.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert b"\r\nConnection: close" in head
    assert b"\r\nContent-Length: %d\r\n" % len(body) in head
    assert farewell(431, "head is above 10 bytes", bodyless=True) == head + b"\r\n\r\n"


def test_reasons() -> None:
    assert reason_of(200) == "OK"
    assert reason_of(777) == ""


def test_a_target_is_needed() -> None:
    with pytest.raises(LocalProtocolError, match="no target"):
        encode_request(RequestHead(service="com.example.Hello", method="say"))
    encode_request(RequestHead(service="a", method="GET", extra=Target(path="/")))
