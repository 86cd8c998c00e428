"""The client's side: framing of requests, ends of responses, and when a connection may be used again."""

from __future__ import annotations

import pytest

from tests.codecs.http1.driving import asking, client, cuts, events, kept, read, request
from xproxy.codecs.http1.plugin import PLUGIN
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Data, GoAway, Head, Reset, Trailers, Violation
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role

OK = b"HTTP/1.1 200 OK\r\n"
SIZED = OK + b"Content-Length: 2\r\n\r\nhi"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
NEXT = Head(1, request(), b"", end=True)


# Requests


@pytest.mark.parametrize(
    ("message", "data", "expected"),
    [
        (request(), b"", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (request(), b"hi", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"),
        (request("POST"), b"", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"),
        (request("DELETE"), b"", b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (request("HEAD"), b"", b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (request("OPTIONS", "*"), b"", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
        (
            request("GET", headers=[("Content-Length", "9")]),
            b"",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        (request(service=""), b"", b"GET / HTTP/1.1\r\nHost: \r\n\r\n"),
    ],
)
def test_whole_requests(message: RequestHead, data: bytes, expected: bytes) -> None:
    codec = client()
    for _ in range(2):  # the second time the head comes out of the memory
        assert codec.send(Head(1, message, data, end=True)) == expected
        assert codec.receive(b"HTTP/1.1 204 No Content\r\n\r\n")


def test_a_request_in_pieces() -> None:
    codec = client()
    head = codec.send(Head(1, request("PUT", headers=[("Trailer", "X")]), b"ab"))
    assert head.endswith(b"Transfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2\r\nab\r\n")
    assert codec.send(Data(1, b"c")) == b"1\r\nc\r\n"
    assert codec.send(Trailers(1, Headers([("X", "1")]))) == b"0\r\nX: 1\r\n\r\n"
    sized = client()
    assert sized.send(Head(1, request("PUT", headers=[("Content-Length", "3")]))).endswith(
        b"Host: a\r\nContent-Length: 3\r\n\r\n"
    )
    assert sized.send(Data(1, b"abc", end=True)) == b"abc"
    with pytest.raises(LocalProtocolError):
        sized.send(Data(1, b"x"))


@pytest.mark.parametrize(
    ("announced", "data"), [(True, b""), (True, b"abc"), (False, b"abc"), (True, b"a")]
)
def test_trailers_behind_a_declared_length_turn_it_into_chunks(
    announced: bool, data: bytes
) -> None:
    # RFC 9110 §6.5: known by their announcement, or as all of the data is here and not the end.
    fields = [("Content-Length", "3"), *([("Trailer", "X")] if announced else ())]
    codec = client()
    raw = codec.send(Head(1, request("PUT", headers=fields), data))
    assert b"Content-Length" not in raw
    assert b"Transfer-Encoding: chunked\r\n" in raw
    codec.send(Data(1, b"abc"[len(data) :]))
    assert codec.send(Trailers(1, Headers([("X", "1")]))) == b"0\r\nX: 1\r\n\r\n"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
@pytest.mark.parametrize(
    "fields",
    [
        (("X-Request-Id", "1"),),
        (("X-A", "1"), ("x-b", "\u00e9")),
        (("TE", "trailers"),),
        (("Host", "b"), ("Connection", "close"), ("Content-Length", "9")),
    ],
)
def test_fields_added_to_a_known_head_are_written_like_any_other(
    method: str, fields: tuple[tuple[str, str], ...]
) -> None:
    known = request(method, headers=[("Accept", "*/*")])
    for step in (1, len(fields)):  # in one go, and one after another
        head = known
        for start in range(0, len(fields), step):
            head = head.adding(fields[start : start + step])
        plain = request(method, headers=[("Accept", "*/*"), *fields])
        for data in (b"", b"hi"):
            written = client().send(Head(1, head, data, end=True))
            assert written == client().send(Head(1, plain, data, end=True))


def test_an_added_field_cannot_bring_another_one() -> None:
    with pytest.raises(LocalProtocolError):
        client().send(Head(1, request().adding((("X", "1\r\nHost: b"),)), b"", end=True))


def test_an_expectation_is_passed_on() -> None:
    codec = client()
    fields = [("Expect", "100-continue"), ("Content-Length", "2")]
    assert b"\r\nExpect: 100-continue\r\n" in codec.send(Head(1, request("PUT", headers=fields)))
    (interim,) = codec.receive(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert isinstance(interim, Head)
    assert interim.interim
    assert codec.send(Data(1, b"hi", end=True)) == b"hi"
    assert [e[0] for e in read(codec, [SIZED])] == ["head", "body", "end"]


def test_goaway_is_nothing_to_say_to_an_upstream() -> None:
    codec = client()
    assert codec.goaway() == b""
    assert b"close" not in codec.send(NEXT)


# Responses


def test_a_message_that_came_whole_is_one_frame() -> None:
    for wire in (SIZED, CHUNKED + b"2\r\nhi\r\n0\r\n\r\n"):
        (head,) = asking().receive(wire)
        assert isinstance(head, Head)
        assert (head.data, head.end, head.interim) == (b"hi", True, False)


@pytest.mark.parametrize(
    ("method", "wire", "kinds"),
    [
        ("GET", SIZED, ["head", "body", "end"]),
        ("GET", OK + b"Content-Length: 0\r\n\r\n", ["head", "end"]),
        ("HEAD", OK + b"Content-Length: 9\r\n\r\n", ["head", "end"]),
        ("HEAD", OK + b"\r\n", ["head", "end"]),
        ("HEAD", CHUNKED, ["head", "end"]),
        ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", ["head", "end"]),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", ["head", "end"]),
        ("GET", CHUNKED + b"1\r\nx\r\n0\r\nX: 1\r\n\r\n", ["head", "body", "trailers"]),
        (
            "GET",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 X\r\n\r\n" + SIZED,
            ["interim", "interim", "head", "body", "end"],
        ),
        (
            "GET",
            b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx",
            ["head", "body", "end"],
        ),
        (
            "CONNECT",
            b"HTTP/1.1 403 Forbidden\r\nContent-Length: 1\r\n\r\nx",
            ["head", "body", "end"],
        ),
    ],
)
def test_responses_after_which_the_connection_is_used_again(
    method: str, wire: bytes, kinds: list[str]
) -> None:
    for pieces in cuts(wire):
        codec = client()
        message = request(method, "" if method == "CONNECT" else "/", service="a:1")
        codec.send(Head(1, message, b"", end=method != "CONNECT"))
        assert [e[0] for e in read(codec, pieces)] == kinds
        assert kept(codec) == []
        assert codec.send(NEXT)
        assert [e[0] for e in read(codec, [SIZED])] == ["head", "body", "end"]


@pytest.mark.parametrize(
    ("wire", "body"),
    [
        (OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nhi", b"hi"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"hi"),
        (
            OK + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            b"hi",
        ),
    ],
)
def test_responses_that_end_the_connection(wire: bytes, body: bytes) -> None:
    for pieces in cuts(wire + b"ignored"):
        codec = asking()
        found = read(codec, pieces)
        assert found[1:] == [("body", body), ("end",), ("goaway",)]
        with pytest.raises(LocalProtocolError):
            codec.send(NEXT)


def test_a_body_that_ends_with_the_connection() -> None:
    for pieces in cuts(OK + b"\r\nuntil close"):
        codec = asking()
        before = read(codec, pieces)
        assert [e[0] for e in before] == ["head", "body"]
        assert read(codec, [None]) == [("end",), ("goaway",)]
        assert codec.receive(None) == []


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"H",
        SIZED[:-1],
        SIZED[:30],
        CHUNKED,
        CHUNKED + b"2\r\nhi\r\n",
        CHUNKED + b"0\r\n",
        b"HTTP/1.1 100 X\r\n\r\n",
    ],
)
def test_a_truncated_response_never_ends(wire: bytes) -> None:
    for pieces in cuts(wire):
        found = read(asking(), [*pieces, None])
        assert found[-1][0] == "violation"
        assert ("end",) not in found


def test_a_violation_blames_the_upstream() -> None:
    (violation,) = asking().receive(None)
    assert isinstance(violation, Violation)
    assert (violation.farewell, violation.reason) == (b"", Status.UNAVAILABLE)


def test_the_end_of_input_while_idle() -> None:
    codec = client()
    assert codec.receive(b"") == []
    assert codec.receive(None) == []
    with pytest.raises(LocalProtocolError):
        codec.send(NEXT)


def test_an_early_response_ends_the_connection() -> None:
    codec = client()
    codec.send(Head(1, request("PUT")))
    found = read(codec, [SIZED])
    assert found[-2:] == [("end",), ("goaway",)]
    assert codec.send(Data(1, b"late", end=True)) == b""
    with pytest.raises(LocalProtocolError):
        codec.send(NEXT)


def test_a_reset_ends_the_connection() -> None:
    codec = asking()
    assert codec.send(Reset(1, Status.CANCELLED)) == b""
    assert codec.receive(SIZED) == [GoAway()]
    with pytest.raises(LocalProtocolError):
        codec.send(NEXT)


# Tunnels


def test_a_tunnel() -> None:
    codec = client()
    connect = Head(1, request("CONNECT", "", service="a:443"))
    assert codec.send(connect) == b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"
    with pytest.raises(LocalProtocolError):
        codec.send(Data(1, b"too early"))
    frames = codec.receive(OK + b"\r\nfirst")
    assert [e[0] for e in events(frames)] == ["head", "body"]
    assert codec.send(Data(1, b"x")) == b"x"
    assert codec.receive(b"y") == [Data(1, b"y")]
    assert codec.send(Data(1, b"", end=True)) == b""
    assert codec.receive(None) == [Data(1, b"", end=True)]


def test_a_tunnel_is_left_to_others() -> None:
    codec = client()
    codec.send(Head(1, request("CONNECT", "", service="a:443")))
    codec.receive(OK + b"\r\n")
    assert codec.upgraded() == b""


# Our own mistakes


def test_one_request_at_a_time() -> None:
    codec = asking()
    with pytest.raises(LocalProtocolError):
        codec.send(NEXT)
    with pytest.raises(LocalProtocolError):
        client().send(Data(1, b"x"))
    (answer,) = asking().receive(SIZED)
    with pytest.raises(LocalProtocolError):
        client().send(answer)
    with pytest.raises(LocalProtocolError):
        client().send(Head(1, request("CONNECT", "", service="a:1"), b"x"))


# ---- where nothing is framed, framing fields say nothing (RFC 9110 §9.3.6, RFC 9112 §6.3)

FRAMINGS = [
    ("Transfer-Encoding: chunked", "Content-Length: 5"),
    ("Content-Length: 5", "Transfer-Encoding: chunked"),
    ("Transfer-Encoding: chunked",),
    ("Transfer-Encoding: gzip, chunked",),
    ("Transfer-Encoding: identity",),
    ("Content-Length: 5",),
    ("Content-Length: 5", "Content-Length: 6"),
    ("Content-Length: -5",),
    ("Content-Length: five", "Transfer-Encoding: chunked, chunked"),
]


def framed(status: str, framing: tuple[str, ...], version: str = "1.1") -> bytes:
    return "\r\n".join((f"HTTP/{version} {status}", *framing, "X: 1", "", "")).encode()


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize(
    ("method", "status"),
    [("HEAD", "200 OK"), ("GET", "304 Not Modified"), ("GET", "204 No Content"), ("POST", "204 -")],
)
def test_an_answer_without_a_body_is_whole_whatever_its_framing_says(
    method: str, status: str, framing: tuple[str, ...], version: str
) -> None:
    wire = framed(status, framing, version)
    for size in (1, len(wire)):
        codec = client()
        codec.send(Head(1, request(method), b"", end=True))
        frames = [
            frame
            for at in range(0, len(wire), size)
            for frame in codec.receive(wire[at : at + size])
        ]
        (head, *rest) = frames
        assert isinstance(head, Head)
        assert (head.data, head.end) == (b"", True)
        assert all(isinstance(frame, GoAway) for frame in rest)
        message = head.message
        assert isinstance(message, ResponseHead)
        assert "transfer-encoding" not in message.headers
        kept = message.headers.get_all("content-length")
        assert kept in ([], ["5"])
        if len(framing) > 1 or "204" in status:
            assert not kept  # it is not known to be right
        if len(framing) > 1:
            assert rest, "a server that contradicts itself is not asked again"


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_granted_tunnel_is_one_whatever_its_framing_says(framing: tuple[str, ...]) -> None:
    codec = client()
    codec.send(Head(1, request("CONNECT", "", service="a:1")))
    frames = codec.receive(framed("200 OK", framing) + b"through it")
    (head,) = frames
    assert isinstance(head, Head)
    assert (head.data, head.end) == (b"through it", False)
    server = PLUGIN.open(Role.SERVER, DEFAULT_LIMITS)
    server.receive(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
    told = server.send(Head(1, head.message)).lower()
    assert b"content-length" not in told
    assert b"transfer-encoding" not in told


@pytest.mark.parametrize("framing", FRAMINGS)
def test_an_interim_answer_is_one_whatever_its_framing_says(framing: tuple[str, ...]) -> None:
    codec = client()
    codec.send(Head(1, request(), b"", end=True))
    interim, final = codec.receive(framed("103 Early Hints", framing) + SIZED)
    assert isinstance(interim, Head)
    assert interim.interim
    assert isinstance(interim.message, ResponseHead)
    assert interim.message.headers.pairs == (("X", "1"),)
    assert isinstance(final, Head)
    assert final.end


@pytest.mark.parametrize(
    "framing", [f for f in FRAMINGS if f not in (("Transfer-Encoding: chunked",), FRAMINGS[5])]
)
def test_where_there_is_a_body_its_framing_must_be_right(framing: tuple[str, ...]) -> None:
    for _ in range(2):  # a head that is known already, too
        codec = client()
        codec.send(Head(1, request(), b"", end=True))
        (violation,) = codec.receive(framed("200 OK", framing) + b"0\r\n\r\n")
        assert isinstance(violation, Violation)
