"""Reading: many frames at once, whole messages in one frame, and bytes that nobody gets."""

from __future__ import annotations

import gc
from collections.abc import Sequence

import pytest

from tests.codecs.http2.driving import (
    GET,
    POST,
    REQUEST,
    RESPONSE,
    client,
    data,
    heads,
    parse,
    replies,
    server,
    serving,
)
from xproxy.codecs.http2.plugin import PLUGIN
from xproxy.codecs.http2.wire import GOAWAY, PREFACE, SETTINGS_ACK, rst_stream, settings
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Credit, Data, Frame, GoAway, Head, Reply, Reset, Trailers, Violation
from xproxy.model.limits import DEFAULT_LIMITS, Limits
from xproxy.model.traits import Role


def messages(frames: Sequence[Frame]) -> list[Head | Data | Trailers]:
    return [f for f in frames if isinstance(f, Head | Data | Trailers)]


def test_frames_that_are_no_message() -> None:
    hand = serving()
    codec = hand.codec
    assert codec.send(Reply(b"raw")) == b"raw"
    assert codec.send(Credit()) == b""
    assert parse(codec.send(GoAway()))[0].kind == GOAWAY
    with pytest.raises(LocalProtocolError):
        codec.send(Violation("x"))


def test_an_error_does_not_lose_the_preface() -> None:
    codec = client()
    with pytest.raises(LocalProtocolError):
        codec.send(Head(1, RESPONSE))
    assert codec.send(Head(1, REQUEST, b"", end=True)).startswith(b"PRI")


def test_trailers_without_a_field_that_may_stand_there_just_end() -> None:
    hand = serving()
    frames = hand.say(
        hand.head(1, POST, end=False), data(1, b"x"), hand.head(1, (("content-type", "a"),))
    )
    assert not [f for f in frames if isinstance(f, Trailers)]
    (head,) = heads(frames)
    assert (head.data, head.end) == (b"x", True)


def test_every_whole_frame_says_something() -> None:
    """No frames at all means that something is half here: the driver counts on it."""
    hand = serving()
    for wire in (rst_stream(1, 8),):
        hand.ask(1)
        assert hand.say(wire)
        assert hand.say(wire)
    whole = hand.head(3, GET)
    assert hand.say(whole[:8]) == []
    assert hand.say(whole[8:-1]) == []
    assert hand.say(whole[-1:])


def test_the_end_of_input_completes_nothing() -> None:
    hand = serving()
    hand.ask(1, POST, end=False)
    hand.say(data(1, b"half")[:10])
    assert hand.codec.receive(None) == []
    assert hand.codec.receive(data(1, b"x")) == ()
    assert hand.codec.send(Head(1, RESPONSE, b"still", end=True))


def test_a_peer_may_reset_and_the_driver_learns_it_once() -> None:
    hand = serving()
    hand.ask(1, POST, end=False)
    frames = hand.say(rst_stream(1, 8) + rst_stream(1, 8))
    assert len([f for f in frames if isinstance(f, Reset)]) == 1


@pytest.mark.parametrize("size", [17_000, 70_000])
def test_a_head_above_its_limit_is_not_even_buffered(size: int) -> None:
    codec = server(Limits(max_head_bytes=4096))
    codec.receive(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
    head = size.to_bytes(3, "big") + b"\x01\x05\0\0\0\x01"
    frames = codec.receive(head)
    assert frames[-1].__class__.__name__ == "Violation"
    assert not codec.unfinished


def test_recurring_heads_are_the_same_objects_on_all_connections() -> None:
    hand = serving()
    first = heads(hand.ask(1, (*GET, ("x", "1"))))[0].message
    again = heads(hand.ask(3, (*GET, ("x", "1"))))[0].message
    third = heads(hand.ask(5, (*GET, ("x", "1"))))[0].message
    assert again is third
    assert first == again


def test_replies_are_in_order() -> None:
    hand = serving()
    hand.ask(1, POST, end=False)
    hand.codec.send(Head(1, RESPONSE, b"", end=True))
    assert [s.kind for s in parse(replies(hand.say(data(1, b"x", end=True))))] == []


@pytest.mark.parametrize("role", list(Role))
def test_a_codec_is_freed_with_the_last_who_holds_it(role: Role) -> None:
    """Its parts hold no way back to it: thousands of connections a second leave nothing to collect."""
    codec = PLUGIN.open(role, DEFAULT_LIMITS)
    codec.receive((PREFACE if role is Role.SERVER else b"") + settings(()) + SETTINGS_ACK)
    gc.collect()
    gc.disable()
    try:
        del codec
        assert gc.collect() == 0
    finally:
        gc.enable()
