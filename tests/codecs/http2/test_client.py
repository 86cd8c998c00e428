"""Requests: what is sent for each kind, and how many at a time."""

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
)
from xproxy.codecs.http2.client import ClientCodec
from xproxy.codecs.http2.limits import MAX_STREAM_ID
from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.wire import (
    HEADERS,
    Setting,
    goaway,
    rst_stream,
    settings,
    window_update,
)
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Data, Frame, GoAway, Head, Reset
from xproxy.model.headers import Headers
from xproxy.model.limits import Limits
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


class TestRoom:
    """RFC 9113 §5.1.2: no more streams than the server takes."""

    def test_what_is_above_is_refused_and_changes_nothing(self) -> None:
        hand, codec = ready((Setting.MAX_CONCURRENT_STREAMS, 2))
        assert (codec.settled, codec.saturated, codec.room) == (True, False, 2)
        for stream_id in (1, 3):
            assert one(codec.send(Head(stream_id, REQUEST, b"", end=True)), hand)
        assert (codec.saturated, codec.room) == (True, 0)
        before = codec.snapshot()
        with pytest.raises(LocalProtocolError, match="2 requests are in flight"):
            codec.send(Head(codec.next_stream_id(), REQUEST, b"", end=True))
        assert codec.snapshot() == before
        hand.ask(3, OK)
        assert (codec.saturated, codec.room) == (False, 1)
        assert one(codec.send(Head(5, REQUEST, b"", end=True)), hand)[0] == (":method", "GET")

    def test_a_stream_has_room_until_both_its_halves_are_over(self) -> None:
        hand, codec = ready((Setting.MAX_CONCURRENT_STREAMS, 1))
        codec.send(Head(1, UPLOAD))
        hand.ask(1, OK)
        assert codec.room == 0
        codec.send(Data(1, b"", True))
        assert codec.room == 1

    def test_a_reset_makes_room(self) -> None:
        hand, codec = ready((Setting.MAX_CONCURRENT_STREAMS, 2))
        for stream_id in (1, 3):
            codec.send(Head(stream_id, UPLOAD))
        codec.send(Reset(1, Status.CANCELLED))
        assert codec.room == 1
        hand.say(rst_stream(3, ErrorCode.CANCEL))
        assert codec.room == 2

    def test_a_server_may_take_more_or_fewer_than_before(self) -> None:
        hand, codec = ready((Setting.MAX_CONCURRENT_STREAMS, 0))
        assert (codec.saturated, codec.room) == (True, 0)
        hand.say(settings(((Setting.MAX_CONCURRENT_STREAMS, 3),)))
        for stream_id in (1, 3, 5):
            codec.send(Head(stream_id, REQUEST, b"", end=True))
        hand.say(settings(((Setting.MAX_CONCURRENT_STREAMS, 1),)))
        assert (codec.saturated, codec.room) == (True, -2)
        hand.ask(1, OK)
        hand.ask(3, OK)
        with pytest.raises(LocalProtocolError):
            codec.send(Head(7, REQUEST, b"", end=True))
        hand.ask(5, OK)
        assert codec.send(Head(7, REQUEST, b"", end=True))

    def test_our_own_bound_is_room_too(self) -> None:
        hand = asked((), Limits(max_streams=2))
        assert isinstance(hand.codec, ClientCodec)
        assert hand.codec.room == 2

    def test_before_its_settings_a_server_takes_a_hundred_for_who_cannot_wait(self) -> None:
        codec = client()
        assert (codec.settled, codec.saturated, codec.room) == (False, True, 0)
        for number in range(100):
            assert codec.send(Head(2 * number + 1, REQUEST, b"", end=True))
        with pytest.raises(LocalProtocolError, match="the server takes 100"):
            codec.send(Head(codec.next_stream_id(), REQUEST, b"", end=True))

    def test_after_a_goaway_none_is_taken(self) -> None:
        hand, codec = ready((Setting.MAX_CONCURRENT_STREAMS, 2))
        codec.send(Head(1, REQUEST, b"", end=True))
        assert GoAway(1, Status.OK) in hand.say(goaway(1, 0))
        with pytest.raises(LocalProtocolError):
            codec.send(Head(3, REQUEST, b"", end=True))


LONG = attrs.evolve(REQUEST, headers=Headers((("x-long", "v" * 9000),)))
UPGRADE = attrs.evolve(REQUEST, extra=Target(path="/", upgrade="websocket"))


@pytest.mark.parametrize("message", [LONG, UPGRADE])
def test_what_not_every_server_takes_is_not_sent_before_its_settings(message: RequestHead) -> None:
    hand = Hand(client(), started=False)
    codec = hand.codec
    assert isinstance(codec, ClientCodec)
    assert codec.premature(message)
    assert not codec.premature(REQUEST)
    before = codec.snapshot()
    with pytest.raises(LocalProtocolError, match="has not said yet"):
        codec.send(Head(1, message))
    assert codec.snapshot() == before
    hand.say(settings(((Setting.ENABLE_CONNECT_PROTOCOL, 1),)))
    assert not codec.premature(message)
    assert HEADERS in [seen.kind for seen in parse(codec.send(Head(1, message)))]


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
