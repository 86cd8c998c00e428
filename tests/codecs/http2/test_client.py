"""Requests: what is sent for each kind, and those that wait for a stream."""

from __future__ import annotations

import attrs
import pytest

from tests.codecs.http2.driving import (
    OK,
    REQUEST,
    RESPONSE,
    UPLOAD,
    Hand,
    asked,
    client,
    data,
    heads,
    parse,
    replies,
)
from xproxy.codecs.http2.client import ClientCodec
from xproxy.codecs.http2.limits import MAX_STREAM_ID
from xproxy.codecs.http2.wire import HEADERS, PING, Setting, goaway, settings, window_update
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Credit, Data, Frame, GoAway, Head, Reset, Trailers
from xproxy.model.headers import Headers
from xproxy.model.message import RequestHead, Target
from xproxy.model.status import Status


def ready(*values: tuple[int, int]) -> tuple[Hand, ClientCodec]:
    """Return a client that has the server's settings."""
    hand = asked(())
    hand.say(settings(values))
    assert isinstance(hand.codec, ClientCodec)
    return hand, hand.codec


def one(raw: bytes, hand: Hand) -> list[tuple[str, str]]:
    """Read the fields of a request."""
    (head,) = [s for s in parse(raw) if s.kind == HEADERS]
    return hand.fields(head)


def test_a_request() -> None:
    hand, codec = ready()
    raw = codec.send(Head(codec.next_stream_id(), REQUEST, b"", end=True))
    assert one(raw, hand) == [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "a.example"),
        ("x-sample", "one"),
    ]
    assert codec.next_stream_id() == 3


def test_ids_may_be_left_out() -> None:
    _, codec = ready()
    codec.send(Head(5, REQUEST, b"", end=True))
    assert codec.next_stream_id() == 7
    with pytest.raises(LocalProtocolError):
        codec.send(Head(3, REQUEST, b"", end=True))


def test_connect_has_no_path() -> None:
    hand, codec = ready()
    tunnel = RequestHead(service="a:443", method="CONNECT", extra=Target(path=""))
    assert one(codec.send(Head(1, tunnel)), hand) == [
        (":method", "CONNECT"),
        (":authority", "a:443"),
    ]
    hand.ask(1, (*OK, ("content-length", "5")), end=False)
    assert hand.say(data(1, b"any length"))[0] == Data(1, b"any length")


def test_fields_that_were_added_follow_the_others() -> None:
    """What is known of the head before is used, and the result is the same."""
    hand, codec = ready()
    for number in range(3):
        message = REQUEST.adding((("X-Request-Id", str(number)),)).adding((("via", "2 x"),))
        told = one(codec.send(Head(2 * number + 1, message, b"", end=True)), hand)
        assert told[4:] == [("x-sample", "one"), ("x-request-id", str(number)), ("via", "2 x")]
    message = REQUEST.adding((("Content-Length", "3"),))
    told = one(codec.send(Head(7, message, b"abc", end=True)), hand)
    assert told[-1] == ("content-length", "3")


@pytest.mark.parametrize(
    "message",
    [
        attrs.evolve(REQUEST, extra=None),
        attrs.evolve(REQUEST, method="GE T"),
        attrs.evolve(REQUEST, service="a b"),
        attrs.evolve(REQUEST, extra=Target(path="no slash")),
        attrs.evolve(REQUEST, extra=Target(path="/a b")),
        attrs.evolve(REQUEST, extra=Target(path="/", scheme="a b")),
        attrs.evolve(REQUEST, headers=Headers((("x", "\0"),))),
        attrs.evolve(REQUEST, service="", method="CONNECT"),
    ],
)
def test_what_cannot_be_said(message: RequestHead) -> None:
    hand, codec = ready()
    with pytest.raises(LocalProtocolError):
        codec.send(Head(1, message, b"", end=True))
    assert codec.next_stream_id() == 1
    assert one(codec.send(Head(1, REQUEST, b"", end=True)), hand)


def test_a_reset_before_the_answer() -> None:
    hand, codec = ready()
    codec.send(Head(1, UPLOAD))
    assert parse(codec.send(Reset(1, Status.CANCELLED)))[0].payload == b"\0\0\0\x08"
    assert codec.send(Data(1, b"late")) == b""
    assert not heads(hand.ask(1, OK))


class TestWaiting:
    """RFC 9113 §5.1.2: no more streams than the server takes."""

    def test_requests_wait_their_turn(self) -> None:
        hand, codec = ready((Setting.MAX_CONCURRENT_STREAMS, 2))
        assert (codec.settled, codec.saturated, codec.room) == (True, False, 2)
        sent = [codec.send(Head(i, REQUEST, b"", end=True)) for i in (1, 3, 5, 7)]
        assert [bool(raw) for raw in sent] == [True, True, False, False]
        assert (codec.saturated, codec.room, codec.waiting) == (True, 0, 2)
        assert codec.sendable(5) == 0
        for raw in sent[:2]:
            one(raw, hand)
        frames = hand.ask(3, OK)
        assert one(replies(frames), hand)[0] == (":method", "GET")
        assert [s.stream_id for s in parse(replies(frames))] == [5]

    def test_the_end_of_a_body_can_wait_too(self) -> None:
        hand, codec = ready((Setting.MAX_CONCURRENT_STREAMS, 1))
        codec.send(Head(1, REQUEST, b"", end=True))
        codec.send(Head(3, UPLOAD))
        assert codec.send(Data(3, b"", True)) == b""
        with pytest.raises(LocalProtocolError):
            codec.send(Data(3, b"", True))
        assert [s.flags for s in parse(replies(hand.ask(1, OK)))] == [5]

    def test_whoever_has_a_body_learns_that_it_may_send(self) -> None:
        hand, codec = ready((Setting.MAX_CONCURRENT_STREAMS, 1))
        codec.send(Head(1, REQUEST, b"", end=True))
        codec.send(Head(3, UPLOAD))
        with pytest.raises(LocalProtocolError):
            codec.send(Data(3, b"x"))
        # The slot becomes free by our own doing: a PING makes the server give us the occasion.
        raw = codec.send(Reset(1, Status.CANCELLED))
        kinds = [s.kind for s in parse(raw)]
        assert kinds == [3, HEADERS, PING]
        assert Credit() in hand.say(window_update(0, 1))
        assert codec.sendable(3) == 65_535

    def test_a_higher_limit_opens_what_waits(self) -> None:
        hand, codec = ready((Setting.MAX_CONCURRENT_STREAMS, 0))
        assert codec.send(Head(1, REQUEST, b"", end=True)) == b""
        frames = hand.say(settings(((Setting.MAX_CONCURRENT_STREAMS, 1),)))
        assert HEADERS in [s.kind for s in parse(replies(frames))]

    def test_a_request_that_waits_can_be_taken_back(self) -> None:
        hand, codec = ready((Setting.MAX_CONCURRENT_STREAMS, 1))
        codec.send(Head(1, REQUEST, b"", end=True))
        codec.send(Head(3, REQUEST, b"", end=True))
        assert codec.send(Reset(3, Status.CANCELLED)) == b""
        assert replies(hand.ask(1, OK)) == b""

    def test_a_goaway_drops_what_waits(self) -> None:
        hand, codec = ready((Setting.MAX_CONCURRENT_STREAMS, 1))
        codec.send(Head(1, REQUEST, b"", end=True))
        codec.send(Head(3, REQUEST, b"", end=True))
        assert GoAway(1, Status.OK) in hand.say(goaway(1, 0))
        assert replies(hand.ask(1, OK)) == b""

    def test_trailers_wait_and_follow_no_end(self) -> None:
        _, codec = ready((Setting.MAX_CONCURRENT_STREAMS, 0))
        codec.send(Head(1, REQUEST, b"", end=True))
        with pytest.raises(LocalProtocolError):
            codec.send(Trailers(1, Headers((("a", "b"),))))


def test_ids_run_out_in_time() -> None:
    """§5.1.1: a connection whose ids are used up takes no more requests, and says so before."""
    hand, codec = ready()
    codec.send(Head(MAX_STREAM_ID - 2**16 - 2, REQUEST, b"", end=True))
    assert GoAway() not in hand.say(window_update(0, 1))
    codec.send(Head(codec.next_stream_id(), REQUEST, b"", end=True))
    codec.send(Head(codec.next_stream_id(), REQUEST, b"", end=True))
    assert GoAway() in hand.say(window_update(0, 1))
    codec.send(Head(MAX_STREAM_ID, REQUEST, b"", end=True))
    with pytest.raises(LocalProtocolError):
        codec.send(Head(codec.next_stream_id(), REQUEST, b"", end=True))


def test_a_client_sends_requests_only() -> None:
    codec = client()
    frames: list[Frame] = [Head(1, RESPONSE), Head(1, REQUEST, interim=True), Head(2, REQUEST)]
    for frame in frames:
        with pytest.raises(LocalProtocolError):
            codec.send(frame)
