"""The server's side: turns, framing of responses, and every way a connection ends."""

from __future__ import annotations

import pytest

from tests.codecs.http1.driving import (
    ANSWER,
    GET,
    OK,
    asked,
    cuts,
    kept,
    read,
    response,
    served,
    server,
)
from xproxy.codecs.http1.memory import HeadMemory
from xproxy.codecs.http1.server import ServerCodec
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Data, GoAway, Head, Reset, Trailers, Violation
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import Local, Reason, ResponseHead
from xproxy.model.status import Status

GET10 = b"GET / HTTP/1.0\r\n\r\n"
KEEP10 = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
CONNECT = b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"
GOAWAY = [GoAway()]


# Requests


def test_a_message_that_came_whole_is_one_frame() -> None:
    for wire, data in (
        (GET, b""),
        (POST + b"body", b"body"),
        (CHUNKED + b"4\r\nbody\r\n0\r\n\r\n", b"body"),
    ):
        frames = server().receive(wire)
        assert len(frames) == 1
        assert isinstance(frames[0], Head)
        assert (frames[0].data, frames[0].end, frames[0].origin) == (data, True, None)


def test_a_body_comes_as_it_arrives() -> None:
    codec = server()
    (head,) = codec.receive(POST + b"b")
    assert isinstance(head, Head)
    assert (head.data, head.end) == (b"b", False)
    assert codec.receive(b"o") == [Data(1, b"o")]
    assert codec.receive(b"dy") == [Data(1, b"dy", end=True)]


def test_trailers_end_a_request() -> None:
    found = served([CHUNKED + b"1\r\nx\r\n0\r\nX-Sum: 1\r\nHost: b\r\n\r\n"]).events
    assert found[1:] == [("body", b"x"), ("trailers", Headers([("X-Sum", "1")]))]


def test_up_to_two_empty_lines_stand_before_each_request() -> None:
    for pieces in cuts(b"\r\n\r\n" + GET + b"\r\n" + GET + b"\r\n\r\n" + GET):
        kinds = [event[0] for event in served(pieces).events]
        assert kinds == ["head", "end"] * 3


def test_pipelined_requests_wait_for_their_turn() -> None:
    wire = GET + POST + b"body" + CHUNKED + b"1\r\nx\r\n0\r\n\r\n" + GET
    for pieces in cuts(wire):
        codec = server()
        assert [e[0] for e in read(codec, pieces)] == ["head", "end"]
        assert codec.receive(b"") == []
        for body in (b"body", b"x", None):
            assert codec.send(ANSWER).endswith(b"\r\n\r\ndone")
            (head,) = codec.receive(b"")
            assert isinstance(head, Head)
            assert head.data == (body or b"")
        assert codec.receive(b"") == []
        codec.send(ANSWER)
        assert codec.receive(b"") == ()


def test_what_is_held_back_is_bounded() -> None:
    codec = server()
    codec.receive(GET)
    for _ in range(100):
        assert codec.receive(b"x" * DEFAULT_LIMITS.max_head_bytes) == []
    assert b"\r\nConnection: close\r\n" in codec.send(ANSWER)
    assert codec.receive(b"") == GOAWAY


def test_one_read_may_bring_more_than_is_held() -> None:
    # Found by fuzzing: in pieces, with an answer after each request, all were served; in one piece only the first.
    many = 4 * DEFAULT_LIMITS.max_head_bytes // len(GET) + 10
    codec = server()
    frames = list(codec.receive(GET * many))
    for _ in range(many):
        (head,) = frames
        assert isinstance(head, Head)
        codec.send(ANSWER)
        frames = list(codec.receive(b""))
    assert frames == []


def test_nothing_is_held_behind_a_last_request() -> None:
    codec = server()
    codec.receive(CLOSE + GET)
    assert kept(codec) == []
    codec.receive(GET)
    assert kept(codec) == []


@pytest.mark.parametrize("wire", [POST + b"body", CHUNKED + b"4\r\nbody\r\n0\r\n\r\n"])
def test_an_idle_connection_keeps_nothing(wire: bytes) -> None:
    codec = server()
    for _ in range(2):
        codec.receive(wire[:30])
        assert kept(codec)
        codec.receive(wire[30:])
        codec.send(ANSWER)
        assert kept(codec) == []


# Responses


@pytest.mark.parametrize(
    ("wire", "answer", "expected"),
    [
        (GET, Head(1, OK, b"hi", end=True), b"Content-Length: 2\r\n\r\nhi"),
        (GET, Head(1, OK, b"", end=True), b"Content-Length: 0\r\n\r\n"),
        (
            GET,
            Head(1, response(200, [("Content-Length", "9")]), b"hi", end=True),
            b"Content-Length: 2\r\n\r\nhi",
        ),
        (
            HEAD,
            Head(1, response(200, [("Content-Length", "9")]), b"", end=True),
            b"Content-Length: 9\r\n\r\n",
        ),
        (HEAD, Head(1, OK, b"", end=True), b"\r\n"),
        (HEAD, Head(1, OK, b"hi", end=True), b"Content-Length: 2\r\n\r\n"),
        (GET, Head(1, response(204), b"", end=True), b"\r\n"),
        (GET, Head(1, response(204), b"dropped", end=True), b"\r\n"),
        (
            GET,
            Head(1, response(304, [("Content-Length", "9")]), b"", end=True),
            b"Content-Length: 9\r\n\r\n",
        ),
        (CLOSE, Head(1, OK, b"hi", end=True), b"Content-Length: 2\r\nConnection: close\r\n\r\nhi"),
        (GET10, Head(1, OK, b"hi", end=True), b"Content-Length: 2\r\nConnection: close\r\n\r\nhi"),
        (
            KEEP10,
            Head(1, OK, b"hi", end=True),
            b"Content-Length: 2\r\nConnection: keep-alive\r\n\r\nhi",
        ),
    ],
)
def test_whole_responses(wire: bytes, answer: Head, expected: bytes) -> None:
    assert isinstance(answer.message, ResponseHead)
    start = b"HTTP/1.1 %d " % (answer.message.native_status or 0)
    memory = HeadMemory()
    for _ in range(2):  # the second time the heads come out of the memory
        codec = server(memory=memory)
        codec.receive(wire)
        sent = codec.send(answer)
        assert sent.startswith(start)
        assert sent.split(b"\r\n", 1)[1] == expected
        closes = b"Connection: close" in expected
        assert list(codec.receive(b"")) == (GOAWAY if closes else [])


def test_chunks() -> None:
    codec = asked()
    assert codec.send(Head(1, response(200, [("Trailer", "X")]), b"ab")).endswith(
        b"Transfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2\r\nab\r\n"
    )
    assert codec.send(Data(1, b"c" * 17)) == b"11\r\n" + b"c" * 17 + b"\r\n"
    assert codec.send(Data(1, b"")) == b""
    fields = Headers([("X", "1"), ("Content-Length", "5")])
    assert codec.send(Trailers(1, fields)) == b"0\r\nX: 1\r\n\r\n"
    assert [e[0] for e in read(codec, [GET])] == ["head", "end"]


def test_a_declared_length_is_kept() -> None:
    head = Head(1, response(200, [("content-length", "004")]))
    codec = asked()
    assert codec.send(head).endswith(b"\r\nContent-Length: 4\r\n\r\n")
    assert codec.send(Data(1, b"abc")) == b"abc"
    with pytest.raises(LocalProtocolError, match="longer"):
        codec.send(Data(1, b"de"))
    with pytest.raises(LocalProtocolError, match="shorter"):
        codec.send(Data(1, b"", end=True))
    with pytest.raises(LocalProtocolError, match="shorter"):
        codec.send(Trailers(1, Headers()))
    assert codec.send(Data(1, b"d")) == b"d"
    assert codec.send(Trailers(1, Headers([("X", "dropped")]))) == b""
    assert codec.receive(b"") == ()


@pytest.mark.parametrize("wire", [GET10, KEEP10])
def test_an_old_client_reads_until_close(wire: bytes) -> None:
    codec = asked(wire)
    assert codec.send(Head(1, OK, b"a")).endswith(b"OK\r\nConnection: close\r\n\r\na")
    assert codec.send(Data(1, b"b")) == b"b"
    assert codec.send(Trailers(1, Headers([("X", "1")]))) == b""
    assert codec.receive(b"") == GOAWAY


@pytest.mark.parametrize("code", [200, 204, 304])
def test_a_response_without_a_body_drops_its_pieces(code: int) -> None:
    codec = asked(HEAD if code == 200 else GET)
    sent = codec.send(Head(1, response(code, [("Content-Length", "9")]), b"dropped"))
    assert sent.endswith(b"\r\n\r\n")
    assert (b"\r\nContent-Length: 9\r\n" in sent) == (code != 204)
    assert codec.send(Data(1, b"dropped")) == b""
    assert codec.send(Data(1, b"", end=True)) == b""
    assert codec.receive(b"") == ()


def test_interim_responses_come_first() -> None:
    codec = asked(POST)
    assert codec.send(Head(1, response(100), interim=True)) == b"HTTP/1.1 100 Continue\r\n\r\n"
    hints = Head(1, response(103, [("Link", "</a>")]), interim=True)
    assert codec.send(hints) == b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    assert codec.receive(b"body") == [Data(1, b"body", end=True)]
    assert codec.send(ANSWER).startswith(b"HTTP/1.1 200 OK\r\n")


def test_an_old_client_gets_no_interim_response() -> None:
    assert asked(GET10).send(Head(1, response(103), interim=True)) == b""


def test_a_reply_made_here_has_a_line_for_a_person() -> None:
    message = ResponseHead(
        status=Status.RESOURCE_EXHAUSTED,
        extra=Local(detail="9 requests pending, limit 9", reason=Reason.OVERFLOW, retry_after=2),
    )
    sent = asked().send(Head(1, message, b"", end=True))
    head, _, body = sent.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\n")
    assert b"\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 28" in head
    assert body == b"9 requests pending, limit 9\n"
    sent = asked(HEAD).send(Head(1, message, b"", end=True))
    assert sent.endswith(b"Content-Length: 28\r\n\r\n")
    sent = asked().send(Head(1, message, b"{}", end=True))
    assert sent.endswith(b"Content-Length: 2\r\n\r\n{}")
    assert b"text/plain" not in sent


# Ends


def test_an_answer_before_the_request_was_read_closes() -> None:
    codec = asked(POST + b"b")
    assert b"\r\nConnection: close\r\n" in codec.send(ANSWER)
    assert codec.receive(b"ody" + GET) == GOAWAY
    assert codec.receive(GET) == []


def test_an_answer_that_ends_before_the_request_closes_too() -> None:
    codec = asked(POST + b"b")
    assert b"close" not in codec.send(Head(1, OK))
    codec.send(Data(1, b"", end=True))
    assert codec.receive(b"ody" + GET) == GOAWAY
    codec = asked(POST + b"b")
    codec.send(Head(1, OK))
    assert codec.receive(b"ody") == [Data(1, b"ody", end=True)]
    codec.send(Data(1, b"", end=True))
    assert [e[0] for e in read(codec, [GET])] == ["head", "end"]


def test_a_refused_expectation_is_not_followed_by_a_body() -> None:
    wire = POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    codec = asked(wire)
    answer = Head(1, ResponseHead(status=Status.NOT_FOUND), b"", end=True)
    assert b"\r\nConnection: close\r\n" in codec.send(answer)
    assert codec.receive(GET) == GOAWAY


def test_goaway_lets_the_next_response_say_close() -> None:
    codec = asked(GET + GET)
    assert codec.goaway() == b""
    assert b"\r\nConnection: close\r\n" in codec.send(ANSWER)
    assert codec.receive(b"") == GOAWAY
    late = asked(GET + GET)
    late.send(Head(1, OK))
    assert late.send(GoAway()) == b""
    late.send(Data(1, b"", end=True))
    assert [e[0] for e in read(late, [b""])] == ["head", "end"]
    assert b"\r\nConnection: close\r\n" in late.send(ANSWER)


def test_a_reset_leaves_the_message_broken() -> None:
    codec = asked(GET + GET)
    codec.send(Head(1, OK, b"half"))
    assert codec.send(Reset(1, Status.UNAVAILABLE)) == b""
    assert codec.send(Data(1, b"more", end=True)) == b""
    assert codec.receive(b"") == GOAWAY
    assert codec.receive(GET) == []


def test_the_end_of_input_between_messages_is_no_crime() -> None:
    codec = server()
    assert codec.receive(None) == []
    assert codec.receive(GET) == []
    codec = server()
    codec.receive(b"\r\n")
    assert codec.receive(None) == []


@pytest.mark.parametrize(
    "wire", [GET[:-1], b"G", POST, POST + b"bod", CHUNKED, CHUNKED + b"1\r\nx\r\n0\r\n"]
)
def test_the_end_of_input_in_a_message_is_a_violation(wire: bytes) -> None:
    for pieces in cuts(wire):
        found = read(server(), [*pieces, None])
        assert found[-1][:2] == ("violation", "request truncated by the end of input")
        farewell = found[-1][2]
        assert isinstance(farewell, bytes)
        assert farewell.startswith(b"HTTP/1.1 400 ")
        assert ("end",) not in found


def test_requests_before_the_end_of_input_are_served() -> None:
    codec = server()
    assert [e[0] for e in read(codec, [GET + GET, None])] == ["head", "end"]
    codec.send(ANSWER)
    assert [e[0] for e in read(codec, [b""])] == ["head", "end"]
    codec.send(ANSWER)
    assert codec.receive(b"") == []
    assert codec.receive(b"") == []


def test_a_violation_was_answered_so_nothing_else_is() -> None:
    codec = server()
    found = read(codec, [CHUNKED + b"x\r\n"])
    assert [e[0] for e in found] == ["head", "violation"]
    assert codec.send(ANSWER) == b""
    assert codec.send(Data(1, b"x", end=True)) == b""


def test_a_violation_of_a_head_request_is_answered_without_a_body() -> None:
    found = read(server(), [CHUNKED.replace(b"POST", b"HEAD") + b"x\r\n"])
    farewell = found[-1][2]
    assert isinstance(farewell, bytes)
    assert farewell.endswith(b"\r\n\r\n")


# Tunnels


def test_a_tunnel() -> None:
    codec = server()
    (head,) = codec.receive(CONNECT + b"early")
    assert isinstance(head, Head)
    assert not head.end
    assert codec.receive(b" bird") == []
    assert codec.send(Head(1, OK)) == b"HTTP/1.1 200 OK\r\n\r\n"
    assert codec.receive(b"") == [Data(1, b"early bird")]
    assert codec.receive(b"GET") == [Data(1, b"GET")]
    assert codec.send(Data(1, b"\x16\x03")) == b"\x16\x03"
    assert codec.receive(None) == [Data(1, b"", end=True)]
    assert codec.send(Data(1, b"last", end=True)) == b"last"
    assert codec.receive(b"x") == []


def test_a_tunnel_is_left_to_others() -> None:
    codec = asked(CONNECT + b"early")
    with pytest.raises(LocalProtocolError):
        codec.upgraded()
    codec.send(Head(1, OK))
    assert codec.upgraded() == b"early"
    assert codec.receive(b"x") == []


def test_a_tunnel_that_is_refused_closes() -> None:
    codec = asked(CONNECT + GET)
    refusal = Head(1, ResponseHead(status=Status.PERMISSION_DENIED), b"", end=True)
    assert b"\r\nConnection: close\r\n" in codec.send(refusal)
    assert codec.receive(b"") == GOAWAY


def test_a_tunnel_not_granted_holds_only_so_much() -> None:
    codec = asked(CONNECT)
    piece = b"x" * DEFAULT_LIMITS.max_head_bytes
    frames = [frame for _ in range(6) for frame in codec.receive(piece)]
    assert isinstance(frames[-1], Violation)


def test_a_tunnel_carries_the_end_that_came_early() -> None:
    codec = asked(CONNECT)
    assert codec.receive(b"x") == []
    assert codec.receive(None) == []
    codec.send(Head(1, OK))
    assert codec.receive(b"") == [Data(1, b"x", end=True)]


# Our own mistakes


@pytest.mark.parametrize(
    "frame",
    [
        Head(3, OK, b"", end=True),
        Data(1, b"x"),
        Trailers(1, Headers()),
        Violation("no"),
        Head(1, response(101), interim=True),
        Head(1, response(200), interim=True),
        Head(1, response(100), b"", end=True),
        Head(1, response(103), b"x", interim=True),
    ],
)
def test_frames_that_make_no_sense_now(frame: Head | Data | Trailers | Violation) -> None:
    with pytest.raises(LocalProtocolError):
        asked().send(frame)


def test_an_answer_needs_a_request_and_there_is_one_answer() -> None:
    with pytest.raises(LocalProtocolError):
        server().send(ANSWER)
    codec = asked()
    codec.send(ANSWER)
    with pytest.raises(LocalProtocolError):
        codec.send(ANSWER)
    codec = asked()
    (head,) = server().receive(GET)
    with pytest.raises(LocalProtocolError):
        codec.send(head)


# When an answer was made


def test_answers_made_here_say_when() -> None:
    wires = {
        GET: Head(1, ResponseHead(status=Status.NOT_FOUND), b"", True),
        POST: Head(1, ResponseHead(status=Status.OK, native_status=200, extra=Local()), b"x", True),
        CLOSE: Head(1, ResponseHead(status=Status.OK)),
    }
    for wire, answer in wires.items():
        codec = server()
        codec.receive(wire)
        assert b"Date" not in codec.send(answer)
        codec = server()
        assert isinstance(codec, ServerCodec)
        codec.use_clock(lambda: "then")
        codec.receive(wire)
        assert codec.send(answer).count(b"\r\nDate: then\r\n") == 1


def test_what_an_upstream_said_stays_as_it_was() -> None:
    codec = server()
    assert isinstance(codec, ServerCodec)
    codec.use_clock(lambda: "then")
    codec.receive(GET)
    assert b"then" not in codec.send(
        Head(1, ResponseHead(status=Status.OK, native_status=200), b"", True)
    )
    codec.receive(GET)
    own = Headers([("date", "now")])
    sent = codec.send(Head(1, ResponseHead(status=Status.NOT_FOUND, headers=own), b"", True))
    assert sent.count(b"date: now") == 1
    assert b"then" not in sent


def test_a_refusal_says_when_too() -> None:
    codec = server()
    assert isinstance(codec, ServerCodec)
    codec.use_clock(lambda: "then")
    (violation,) = codec.receive(b"GET  / HTTP/1.1\r\n\r\n")
    assert isinstance(violation, Violation)
    assert violation.farewell.count(b"\r\nDate: then\r\n") == 1
