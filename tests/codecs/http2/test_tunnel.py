"""Tunnels over a stream: CONNECT (RFC 9113 §8.5), and CONNECT for a protocol (RFC 8441)."""

from __future__ import annotations

import attrs
import pytest

from tests.codecs.http2.driving import (
    GET,
    OK,
    RESPONSE,
    Hand,
    Pairs,
    asked,
    client,
    data,
    heads,
    parse,
    resets,
    server,
    serving,
)
from xproxy.codecs.http2.client import ClientCodec
from xproxy.codecs.http2.limits import Http2Limits
from xproxy.codecs.http2.plugin import PLUGIN
from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.tunnel import granted, granted_on_wire, ungranted
from xproxy.codecs.http2.wire import HEADERS, RST_STREAM, SETTINGS, SETTINGS_ACK, Setting, settings
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Data, Head, Reset
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead, ResponseHead, Target
from xproxy.model.status import Status
from xproxy.model.traits import Role

WISH: Pairs = (
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    *GET[1:],
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
)
OFFER = settings(((Setting.ENABLE_CONNECT_PROTOCOL, 1),))
MESSAGE = RequestHead(
    service="a.example",
    method="GET",
    headers=Headers(
        (
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Protocol", "chat"),
        )
    ),
    extra=Target(path="/chat", upgrade="websocket"),
)
SWITCH = ResponseHead(
    status=Status.OK,
    native_status=101,
    headers=Headers((("Sec-WebSocket-Accept", "x"), ("Sec-WebSocket-Protocol", "chat"))),
)


def wishing() -> Hand:
    """A server whose client asks for a WebSocket on stream 1."""
    hand = serving()
    hand.ask(1, WISH, end=False)
    return hand


def ready(*, offered: bool = True) -> tuple[Hand, ClientCodec]:
    """A client that knows whether the server takes CONNECT for a protocol."""
    hand = asked(())
    if offered:
        hand.say(OFFER)
    assert isinstance(hand.codec, ClientCodec)
    return hand, hand.codec


# ---- the server's side


def test_it_is_offered_unless_configured_otherwise() -> None:
    for own, offered in ((Http2Limits(), True), (Http2Limits(extended_connect=False), False)):
        (first, *_) = parse(Hand(server(own=own), started=False).greeting)
        assert first.kind == SETTINGS
        assert (b"\0\x08\0\0\0\1" in first.payload) is offered


def test_a_wish_is_the_get_that_it_is_over_http1() -> None:
    (head,) = heads(wishing().frames)
    message = head.message
    assert isinstance(message, RequestHead)
    assert (message.method, message.service, head.end) == ("GET", "a.example", False)
    assert message.extra == Target(
        path="/", scheme="http", version="2", upgrade="websocket", upgrade_only=True
    )
    assert list(message.headers) == [("sec-websocket-version", "13")]


def test_what_goes_into_a_tunnel_never_joins_the_head() -> None:
    for pairs in (WISH, ((":method", "CONNECT"), (":authority", "a:1"))):
        hand = serving()
        frames = hand.say(hand.head(1, pairs, end=False), data(1, b"all", end=True))
        found = [frame for frame in frames if isinstance(frame, Head | Data)]
        assert [type(frame) for frame in found] == [Head, Data]
        assert found[1] == Data(1, b"all", True)
        hand = serving()
        assert hand.ask(1, pairs)[-1] == Data(1, b"", True)


def test_where_it_was_not_offered_it_is_malformed() -> None:
    hand = Hand(server(own=Http2Limits(extended_connect=False)))
    assert resets(hand.ask(1, WISH, end=False)) == {1: ErrorCode.PROTOCOL_ERROR}


@pytest.mark.parametrize("protocol", ["", "a b", "websocket, x", "x/1", "x" * 65])
def test_a_protocol_that_is_no_name_is_malformed(protocol: str) -> None:
    pairs = [(name, protocol if name == ":protocol" else value) for name, value in WISH]
    assert resets(serving().ask(1, pairs, end=False)) == {1: ErrorCode.PROTOCOL_ERROR}


def test_a_grant_is_200_without_what_http1_needs() -> None:
    hand = wishing()
    (head,) = parse(hand.codec.send(Head(1, SWITCH)))
    assert hand.fields(head) == [(":status", "200"), ("sec-websocket-protocol", "chat")]
    assert hand.say(data(1, b"frames"))[0] == Data(1, b"frames")
    (piece,) = parse(hand.codec.send(Data(1, b"x")))
    assert piece.payload == b"x"
    assert hand.say(data(1, b"", end=True))[0] == Data(1, b"", True)
    (end,) = parse(hand.codec.send(Data(1, b"", True)))
    assert end.flags == 1


@pytest.mark.parametrize("end", [True, False])
def test_a_success_that_grants_nothing_is_not_sent_as_a_grant(end: bool) -> None:
    for message in (
        attrs.evolve(RESPONSE, headers=Headers((("content-length", "4"),))),
        attrs.evolve(RESPONSE, native_status=204),
        ResponseHead(status=Status.OK),
    ):
        hand = wishing()
        raw = hand.codec.send(Head(1, message, b"page" if end else b"", end=end))
        if not end:
            assert hand.codec.send(Data(1, b"page")) == b""
        (head, *rest) = parse(raw)
        assert hand.fields(head)[0] == (":status", "502")
        assert b"page" not in b"".join(one.payload for one in rest)


@pytest.mark.parametrize("code", [302, 403, 426, 503])
def test_a_refusal_is_an_ordinary_answer(code: int) -> None:
    hand = wishing()
    message = ResponseHead(status=Status.UNKNOWN, native_status=code)
    head, body = parse(hand.codec.send(Head(1, message, b"no", end=True)))
    assert hand.fields(head)[0] == (":status", str(code))
    assert body.payload == b"no"


def test_101_is_said_to_nobody_else() -> None:
    hand = serving()
    hand.ask(1)
    with pytest.raises(LocalProtocolError):
        hand.codec.send(Head(1, SWITCH))


def test_fields_in_a_tunnel_are_an_error() -> None:
    """RFC 9113 §8.5: nothing but DATA may come there."""
    hand = wishing()
    hand.codec.send(Head(1, SWITCH))
    assert resets(hand.ask(1, (("x", "y"),))) == {1: ErrorCode.PROTOCOL_ERROR}
    assert heads(hand.ask(3))


def test_a_lost_tunnel_is_a_connect_error() -> None:
    """RFC 9113 §8.5."""
    hand = wishing()
    hand.codec.send(Head(1, SWITCH))
    (seen,) = parse(hand.codec.send(Reset(1, Status.UNAVAILABLE)))
    assert (seen.kind, seen.payload[-1]) == (RST_STREAM, ErrorCode.CONNECT_ERROR)


def test_a_server_is_moved_with_its_tunnels() -> None:
    hand = wishing()
    moved = PLUGIN.restore(hand.codec.snapshot(), Role.SERVER, DEFAULT_LIMITS)
    (head,) = parse(moved.send(Head(1, SWITCH)))
    assert hand.fields(head)[0] == (":status", "200")


# ---- the client's side


def fields_of(hand: Hand, raw: bytes) -> list[tuple[str, str]]:
    (head,) = [seen for seen in parse(raw) if seen.kind == HEADERS]
    assert head.flags == 4  # the stream stays open
    return hand.fields(head)


def test_the_wish_is_connect_for_a_protocol() -> None:
    hand, codec = ready()
    assert fields_of(hand, codec.send(Head(1, MESSAGE))) == [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/chat"),
        (":authority", "a.example"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "chat"),
    ]


def test_a_grant_is_the_101_of_http1() -> None:
    hand, codec = ready()
    codec.send(Head(1, MESSAGE))
    pairs = (*OK, ("sec-websocket-protocol", "chat"), ("content-length", "3"))
    (head,) = heads(hand.ask(1, pairs, end=False))
    assert isinstance(head.message, ResponseHead)
    assert (head.message.native_status, head.end) == (101, False)
    assert list(head.message.headers) == [("sec-websocket-protocol", "chat")]
    assert MESSAGE.grants(head.message)
    assert hand.say(data(1, b"any length"))[0] == Data(1, b"any length")


def test_what_comes_out_of_a_tunnel_never_joins_the_head() -> None:
    for message in (MESSAGE, RequestHead(service="a:1", method="CONNECT", extra=Target(path=""))):
        hand, codec = ready()
        codec.send(Head(1, message))
        frames = hand.say(hand.head(1, OK, end=False), data(1, b"all", end=True))
        found = [frame for frame in frames if isinstance(frame, Head | Data)]
        assert [type(frame) for frame in found] == [Head, Data]
        assert found[1] == Data(1, b"all", True)


def test_a_refusal_is_read_as_it_is_trailers_and_all() -> None:
    hand, codec = ready()
    codec.send(Head(1, MESSAGE))
    (head,) = heads(hand.ask(1, ((":status", "403"),), end=False))
    assert isinstance(head.message, ResponseHead)
    assert head.message.native_status == 403
    assert not resets(hand.ask(1, (("x", "y"),)))


def test_a_server_that_does_not_take_it_is_not_asked() -> None:
    """RFC 8441 §3."""
    _, codec = ready(offered=False)
    with pytest.raises(LocalProtocolError, match="RFC 8441"):
        codec.send(Head(1, MESSAGE))


@pytest.mark.parametrize("offered", [True, False])
def test_before_its_settings_the_wish_is_premature(offered: bool) -> None:
    hand = Hand(client(), started=False)
    codec = hand.codec
    assert isinstance(codec, ClientCodec)
    assert codec.premature(MESSAGE)
    with pytest.raises(LocalProtocolError):
        codec.send(Head(1, MESSAGE))
    hand.say(OFFER if offered else settings(()), SETTINGS_ACK)
    assert not codec.premature(MESSAGE)
    if offered:
        assert fields_of(hand, codec.send(Head(1, MESSAGE)))
        return
    with pytest.raises(LocalProtocolError, match="RFC 8441"):
        codec.send(Head(1, MESSAGE))


@pytest.mark.parametrize(
    "frame",
    [
        Head(1, MESSAGE, b"body"),
        Head(1, MESSAGE, b"", end=True),
        Head(1, attrs.evolve(MESSAGE, method="POST")),
        Head(1, attrs.evolve(MESSAGE, extra=Target(path="/", upgrade="a b"))),
    ],
)
def test_what_cannot_be_asked_for(frame: Head) -> None:
    _, codec = ready()
    with pytest.raises(LocalProtocolError):
        codec.send(frame)


# ---- answers, by themselves


def test_answers_are_translated_there_and_back() -> None:
    there = granted_on_wire(SWITCH)
    assert there.native_status == 200
    assert granted(there).native_status == 101
    assert not ungranted(there)
    assert ungranted(granted_on_wire(RESPONSE))
    refusal = ResponseHead(status=Status.UNAVAILABLE)
    assert granted_on_wire(refusal) is refusal
