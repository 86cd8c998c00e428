"""Frames that carry no message. Their errors are in test_rfc9113.py, their floods in test_guard.py."""

from __future__ import annotations

import pytest

from tests.codecs.http2.driving import POST, Hand, asked, resets, server, serving, state_of
from xproxy.codecs.http2.codec import LIFE_PING
from xproxy.codecs.http2.control import TAKERS
from xproxy.codecs.http2.reader import NOTHING
from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.wire import PRIORITY, SETTINGS_ACK, frame, goaway, ping, rst_stream
from xproxy.model.frames import GoAway, Reset
from xproxy.model.status import Status


def test_every_kind_but_those_of_messages_is_taken() -> None:
    assert set(TAKERS) == {2, 3, 4, 5, 6, 7, 8, 9}


def test_what_needs_no_answer_says_nothing() -> None:
    hand = serving()
    for wire in (
        SETTINGS_ACK,
        ping(LIFE_PING, ack=True),
        frame(PRIORITY, 0, 5, bytes(5)),
        frame(0x55, 0, 0, b""),
    ):
        assert hand.say(wire) == [NOTHING]


@pytest.mark.parametrize(("code", "status"), [(0, Status.OK), (0xB, Status.RESOURCE_EXHAUSTED)])
def test_a_goaway_tells_a_client_what_is_still_served(code: int, status: Status) -> None:
    assert asked().say(goaway(1, code, b"debug")) == [GoAway(1, status)]
    assert serving().say(goaway(0, code)) == [GoAway(None, status)]


@pytest.mark.parametrize("code", list(ErrorCode))
def test_resets_reach_the_driver(code: ErrorCode) -> None:
    hand = serving()
    hand.ask(1, POST, end=False)
    frames = hand.say(rst_stream(1, code))
    assert isinstance(frames[0], Reset)
    assert resets(frames) == {}
    assert not state_of(hand.codec).streams


def test_the_acknowledgement_is_noted() -> None:
    hand = Hand(server(), started=False)
    assert not hand.codec.acknowledged
    hand.say(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", SETTINGS_ACK)
    assert hand.codec.acknowledged
