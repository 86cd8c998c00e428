"""gRPC over HTTP/1.1: bridges and browsers speak it."""

from __future__ import annotations

import attrs
import pytest

from tests.codecs.http1.driving import client, request, server
from xproxy.codecs.http1.plugin import PLUGIN
from xproxy.model.errors import ConnectFailed
from xproxy.model.frames import Head, Trailers
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead, ResponseHead, Rpc, Target
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.stream.exchange import error_head

CALL = (
    b"POST /lab.Echo/Unary HTTP/1.1\r\nHost: a\r\nContent-Type: %b\r\n"
    b"Grpc-Timeout: 2S\r\nContent-Length: 5\r\n\r\n"
)
GRPC = b"application/grpc+proto"
ASKED = attrs.evolve(
    request("POST", "/lab.Echo/Unary", (("content-type", "application/grpc"), ("te", "trailers"))),
    extra=Target(path="/lab.Echo/Unary", rpc=Rpc("grpc", "lab.Echo", "Unary")),
)


@pytest.mark.parametrize(
    ("kind", "dialect"), [(GRPC, "grpc"), (b"application/grpc-web-text", "grpc-web")]
)
def test_a_call_is_read(kind: bytes, dialect: str) -> None:
    (head,) = server().receive(CALL % kind + b"\0\0\0\0\0")
    assert isinstance(head, Head)
    assert isinstance(head.message, RequestHead)
    assert head.message.rpc == Rpc(dialect, "lab.Echo", "Unary")
    assert head.message.deadline == 2.0


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize(
    ("kind", "answered"),
    [(GRPC, b"application/grpc"), (b"application/grpc-web", b"application/grpc-web")],
)
def test_a_reply_made_here_has_its_outcome_in_its_head(
    kind: bytes, answered: bytes, moved: bool
) -> None:
    codec = server()
    codec.receive(CALL % kind + b"\0\0\0\0\0")
    if moved:
        codec = PLUGIN.restore(codec.snapshot(), Role.SERVER, DEFAULT_LIMITS)  # type: ignore[assignment]  # a server's
    raw = codec.send(Head(1, error_head(ConnectFailed("x")), b"some text", True))
    assert raw == (
        b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ngrpc-status: 14\r\n"
        b"grpc-message: the upstream cannot be reached\r\nContent-Length: 0\r\n\r\n" % answered
    )
    assert codec.receive(CALL % kind + b"\0\0\0\0\0")


def test_what_is_no_call_is_answered_as_before() -> None:
    codec = server()
    codec.receive(CALL % b"text/plain" + b"\0\0\0\0\0")
    raw = codec.send(Head(1, error_head(ConnectFailed("x")), b"", True))
    assert raw.startswith(b"HTTP/1.1 503 ")


def test_the_code_for_the_log() -> None:
    head = error_head(ConnectFailed("x"))
    assert (PLUGIN.code_of(head, ASKED), PLUGIN.code_of(head, request())) == (200, 503)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"200 OK\r\nContent-Type: application/grpc\r\ngrpc-status: 5", Status.NOT_FOUND),
        (b"200 OK\r\nContent-Type: application/grpc", Status.OK),
        (b"200 OK\r\nContent-Type: text/html", Status.UNKNOWN),
        (b"404 Not Found", Status.UNIMPLEMENTED),
    ],
)
def test_the_status_of_an_answer(answer: bytes, status: Status) -> None:
    codec = client()
    codec.send(Head(1, ASKED, b"\0\0\0\0\0", True))
    (head,) = codec.receive(b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % answer)
    assert isinstance(head, Head)
    assert isinstance(head.message, ResponseHead)
    assert head.message.status is status


def test_trailers_tell_the_outcome() -> None:
    codec = client()
    codec.send(Head(1, ASKED, b"\0\0\0\0\0", True))
    frames = codec.receive(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nhi\r\n0\r\ngrpc-status: 14\r\n\r\n"
    )
    assert [f.status for f in frames if isinstance(f, Trailers)] == [Status.UNAVAILABLE]


def test_the_time_that_is_left_is_sent() -> None:
    head = attrs.evolve(ASKED, deadline=2.0, headers=ASKED.headers.add("Grpc-Timeout", "2S"))
    assert b"Grpc-Timeout: 2S\r\n" in client().send(Head(1, head, b"", True))
    raw = client().send(Head(1, head.due_in(0.5), b"", True))
    assert raw.lower().count(b"grpc-timeout") == 1
    assert b": 500000u\r\n" in raw
    assert b"TE: trailers\r\n" in raw
