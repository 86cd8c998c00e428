"""Responses: what is sent for each kind, and what the codec refuses to say."""

from __future__ import annotations

import attrs
import pytest

from tests.codecs.http2.driving import (
    GET,
    POST,
    RESPONSE,
    Hand,
    parse,
    serving,
)
from xproxy.codecs.http2.wire import DATA, END_STREAM, HEADERS, Setting, rst_stream, settings
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Data, Head, Reset, Trailers
from xproxy.model.headers import NO_HEADERS, Headers
from xproxy.model.message import Local, Reason, RequestHead, ResponseHead
from xproxy.model.status import Status

LENGTH = attrs.evolve(RESPONSE, headers=Headers((("content-length", "5"),)))


def owing(method: str = "GET", *extra: tuple[str, str]) -> Hand:
    """Return a server that owes the answer on stream 1."""
    hand = serving()
    hand.ask(1, ((":method", method), *GET[1:], *extra))
    return hand


def test_a_whole_response_is_two_frames() -> None:
    hand = owing()
    head, body = parse(hand.codec.send(Head(1, LENGTH, b"hello", end=True)))
    assert hand.fields(head) == [(":status", "200"), ("content-length", "5")]
    assert (head.flags, body.flags, body.payload) == (4, END_STREAM, b"hello")


def test_a_response_without_a_body_is_one_frame() -> None:
    (head,) = parse(owing().codec.send(Head(1, RESPONSE, b"", end=True)))
    assert head.flags == 5


def test_the_length_of_a_whole_body_wins() -> None:
    hand = owing()
    head, _ = parse(hand.codec.send(Head(1, LENGTH, b"replaced", end=True)))
    assert ("content-length", "8") in hand.fields(head)


@pytest.mark.parametrize(("method", "code"), [("HEAD", 200), ("GET", 304), ("GET", 204)])
def test_bodies_that_there_cannot_be_are_dropped(method: str, code: int) -> None:
    message = attrs.evolve(LENGTH, native_status=code)
    hand = owing(method)
    (head,) = parse(hand.codec.send(Head(1, message, b"hello", end=True)))
    assert head.flags == 5
    assert (("content-length", "5") in hand.fields(head)) == (code != 204)
    hand = owing(method)
    hand.say(settings(((Setting.INITIAL_WINDOW_SIZE, 0),)))
    hand.codec.send(Head(1, message))
    assert hand.codec.sendable(1) > 100
    assert hand.codec.send(Data(1, b"hello")) == b""
    (end,) = parse(hand.codec.send(Data(1, b"", True)))
    assert (end.kind, end.flags, end.payload) == (DATA, END_STREAM, b"")


def test_interim_responses() -> None:
    hand = owing()
    early = ResponseHead(status=Status.OK, native_status=103, headers=Headers((("link", "x"),)))
    (head,) = parse(hand.codec.send(Head(1, early, interim=True)))
    assert head.flags == 4
    assert hand.fields(head) == [(":status", "103"), ("link", "x")]
    assert hand.codec.send(Head(1, RESPONSE, b"", end=True))


def test_trailers() -> None:
    hand = owing()
    hand.codec.send(Head(1, RESPONSE))
    (seen,) = parse(
        hand.codec.send(Trailers(1, Headers((("X-Sum", "1"), ("Content-Length", "1")))))
    )
    assert (seen.kind, seen.flags) == (HEADERS, 5)
    assert hand.fields(seen)[-1] == ("x-sum", "1")
    hand = owing()
    hand.codec.send(Head(1, RESPONSE))
    (seen,) = parse(hand.codec.send(Trailers(1, NO_HEADERS)))
    assert (seen.kind, seen.flags) == (DATA, END_STREAM)


def test_local_replies_say_what_happened() -> None:
    local = ResponseHead(
        status=Status.RESOURCE_EXHAUSTED, extra=Local(detail="too much", reason=Reason.RATE_LIMITED)
    )
    hand = owing()
    head, body = parse(hand.codec.send(Head(1, local, b"", end=True)))
    told = dict(hand.fields(head))
    assert told[":status"] == "429"
    assert told["retry-after"] == "1"
    assert told["content-type"] == "text/plain; charset=utf-8"
    assert told["content-length"] == str(len(body.payload))
    assert body.payload == b"too much\n"


def test_a_local_reply_without_room_goes_without_its_text() -> None:
    hand = owing()
    hand.say(settings(((Setting.INITIAL_WINDOW_SIZE, 0),)))
    (head,) = parse(hand.codec.send(Head(1, ResponseHead(status=Status.NOT_FOUND), b"", end=True)))
    assert head.flags == 5


def test_what_is_sent_on_a_stream_that_is_over_is_swallowed() -> None:
    hand = owing()
    hand.say(rst_stream(1, 8))
    for frame in (
        Head(1, RESPONSE, b"x", end=True),
        Data(1, b"x"),
        Trailers(1, NO_HEADERS),
        Reset(1, Status.CANCELLED),
    ):
        assert hand.codec.send(frame) == b""


@pytest.mark.parametrize(
    "frame",
    [
        Head(3, RESPONSE),
        Data(3, b"x"),
        Reset(2, Status.OK),
        Data(1, b"before the head"),
        Trailers(1, NO_HEADERS),
        Head(1, RequestHead(service="a", method="GET")),
        Head(1, attrs.evolve(RESPONSE, native_status=101)),
        Head(1, attrs.evolve(RESPONSE, native_status=103)),
        Head(1, RESPONSE, interim=True),
        Head(1, RESPONSE, bytes(65_536), end=True),
        Head(1, LENGTH, b"longer"),
        Head(1, attrs.evolve(RESPONSE, headers=Headers((("a", "b\r\nc: d"),)))),
        Head(1, attrs.evolve(RESPONSE, headers=Headers((("a b", "c"),)))),
        Head(1, attrs.evolve(RESPONSE, headers=Headers((("content-length", "x"),)))),
    ],
)
def test_our_own_mistakes_change_nothing(frame: Head | Data | Trailers | Reset) -> None:
    hand = owing()
    with pytest.raises(LocalProtocolError):
        hand.codec.send(frame)
    head, _ = parse(hand.codec.send(Head(1, RESPONSE, b"fine", end=True)))
    assert hand.fields(head) == [(":status", "200")]


def test_a_body_keeps_the_length_that_its_head_said() -> None:
    hand = owing()
    hand.codec.send(Head(1, LENGTH))
    hand.codec.send(Data(1, b"123"))
    for frame in (Data(1, b"456"), Data(1, b"4", True), Trailers(1, NO_HEADERS)):
        with pytest.raises(LocalProtocolError):
            hand.codec.send(frame)
    assert hand.codec.send(Data(1, b"45", True))


def test_nothing_follows_the_end() -> None:
    hand = serving()
    hand.ask(1, POST, end=False)
    hand.codec.send(Head(1, RESPONSE, b"", end=True))
    for frame in (Head(1, RESPONSE), Data(1, b"x"), Trailers(1, NO_HEADERS)):
        with pytest.raises(LocalProtocolError):
            hand.codec.send(frame)


def test_fields_of_the_hop_are_not_sent() -> None:
    headers = Headers(
        (("Connection", "close"), ("Transfer-Encoding", "chunked"), ("Upgrade", "x"), ("X-A", "b"))
    )
    hand = owing()
    (head,) = parse(
        hand.codec.send(Head(1, attrs.evolve(RESPONSE, headers=headers), b"", end=True))
    )
    assert hand.fields(head) == [(":status", "200"), ("x-a", "b")]


def test_text_beyond_latin_1_keeps_its_bytes() -> None:
    message = attrs.evolve(RESPONSE, headers=Headers((("x", "caf\xe9"), ("y", "\u4f60"))))
    hand = owing()
    (head,) = parse(hand.codec.send(Head(1, message, b"", end=True)))
    raw = list(hand.decoder.decode(head.payload, raw=True))
    assert (b"x", b"caf\xe9") in raw
    assert (b"y", "\u4f60".encode()) in raw


def test_a_grant_of_a_tunnel_has_no_length() -> None:
    """RFC 9110 §9.3.6."""
    hand = serving()
    hand.ask(1, ((":method", "CONNECT"), (":authority", "a:1")), end=False)
    (head,) = parse(hand.codec.send(Head(1, LENGTH)))
    assert hand.fields(head) == [(":status", "200")]
