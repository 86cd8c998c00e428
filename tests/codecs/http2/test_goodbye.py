"""GOAWAY: a server's two steps, a client's one, and the peer's. On the wire it is in test_behaviour.py."""

from __future__ import annotations

import pytest

from tests.codecs.http2.driving import OK, UPLOAD, asked, data, parse, state_of
from xproxy.codecs.http2.faults import ConnectionFault
from xproxy.codecs.http2.goodbye import DRAIN_PING, Goodbye
from xproxy.codecs.http2.limits import MAX_STREAM_ID, Http2Limits
from xproxy.codecs.http2.state import Drain
from xproxy.codecs.http2.wire import goaway, ping
from xproxy.model.frames import GoAway
from xproxy.model.limits import Size
from xproxy.model.traits import Role


def test_a_server_takes_two_steps() -> None:
    goodbye = Goodbye(Role.SERVER)
    assert goodbye.answered(DRAIN_PING, 7) == b""
    assert goodbye.say() == goaway(MAX_STREAM_ID, 0) + ping(DRAIN_PING)
    assert goodbye.say() == b""
    assert goodbye.answered(b"another!", 7) == b""
    assert goodbye.answered(DRAIN_PING, 7) == goaway(7, 0)
    assert goodbye.answered(DRAIN_PING, 9) == b""
    assert goodbye.drain is Drain.FINAL


def test_the_last_stream_is_none_where_none_was_opened() -> None:
    goodbye = Goodbye(Role.SERVER)
    goodbye.say()
    assert goodbye.answered(DRAIN_PING, -1) == goaway(0, 0)


def test_the_peer_may_only_lower_what_it_looks_at() -> None:
    goodbye = Goodbye(Role.CLIENT)
    for last in (MAX_STREAM_ID, 5, 5, 3):
        goodbye.hear(last)
        assert goodbye.peer_last == last
    with pytest.raises(ConnectionFault):
        goodbye.hear(5)


def test_a_clients_goodbye() -> None:
    hand = asked()
    (last,) = parse(hand.codec.goaway())
    assert last.payload == bytes(8)
    assert hand.codec.goaway() == b""
    assert hand.ask(1, OK)


def test_what_a_server_will_not_look_at_holds_no_room() -> None:
    """Credit for its bytes was given when they came: once is enough."""
    hand = asked((UPLOAD, UPLOAD), own=Http2Limits(connection_window_bytes=Size(100_000)))
    hand.ask(3, OK, end=False)
    hand.say(data(3, bytes(16_384)), data(3, bytes(16_384)))
    hand.codec.consumed(3, 32_768)
    hand.say(data(3, bytes(900)))
    before = state_of(hand.codec)
    assert before.spare < 100_000
    assert GoAway(1) in hand.say(goaway(1, 0))
    after = state_of(hand.codec)
    assert list(after.streams) == [1]
    assert after.spare == 100_000
    assert after.inbound + after.owed == before.inbound + before.owed
