"""Windows as their consumers see them, and what is said first and last."""

from __future__ import annotations

import pytest

from tests.codecs.http2.driving import (
    OK,
    POST,
    RESPONSE,
    Hand,
    asked,
    client,
    crime,
    data,
    parse,
    server,
    serving,
)
from xproxy.codecs.http2.limits import Http2Limits
from xproxy.codecs.http2.wire import (
    SETTINGS,
    SETTINGS_ACK,
    WINDOW_UPDATE,
    Setting,
    read_settings,
    window_update,
)
from xproxy.model.frames import Credit, Data, Head, Reset
from xproxy.model.limits import Limits, Size
from xproxy.model.status import Status


def test_what_a_server_announces() -> None:
    own = Http2Limits(table_bytes=Size(100), frame_bytes=Size(20_000), extended_connect=True)
    first, more = parse(Hand(server(Limits(max_streams=7, max_head_bytes=999), own)).greeting)
    assert first.kind == SETTINGS
    assert read_settings(first.payload, 32) == {
        Setting.MAX_CONCURRENT_STREAMS: 7,
        Setting.INITIAL_WINDOW_SIZE: 16 * 1024 * 1024,
        Setting.ENABLE_CONNECT_PROTOCOL: 1,
        Setting.HEADER_TABLE_SIZE: 100,
        Setting.MAX_FRAME_SIZE: 20_000,
        Setting.MAX_HEADER_LIST_SIZE: 999,
    }
    assert (more.kind, more.stream_id) == (WINDOW_UPDATE, 0)
    assert int.from_bytes(more.payload, "big") == 24 * 1024 * 1024 - 65_535


def test_what_a_client_announces() -> None:
    first = parse(Hand(client()).greeting)[0]
    values = read_settings(first.payload, 32)
    assert values[Setting.ENABLE_PUSH] == 0
    assert Setting.MAX_CONCURRENT_STREAMS not in values


def test_the_acknowledgement_is_noted() -> None:
    hand = Hand(server(), started=False)
    assert not hand.codec.acknowledged
    hand.say(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", SETTINGS_ACK)
    assert hand.codec.acknowledged


class TestCredit:
    own = Http2Limits(stream_window_bytes=Size(1000), connection_window_bytes=Size(100_000))

    def opened(self) -> Hand:
        hand = Hand(server(own=self.own))
        hand.ask(1, POST, end=False)
        return hand

    def test_it_comes_as_the_consumer_takes(self) -> None:
        hand = self.opened()
        hand.say(data(1, bytes(1000)))
        assert hand.codec.consumed(1, 499) == b""
        (update,) = parse(hand.codec.consumed(1, 1))
        assert (update.stream_id, update.payload) == (1, b"\0\0\x01\xf4")
        assert crime(hand.say(data(1, bytes(500)))) is None

    def test_the_connections_comes_too(self) -> None:
        hand = self.opened()
        updates = []
        for _ in range(100):
            hand.say(data(1, bytes(600)))
            updates += parse(hand.codec.consumed(1, 600))
        total = sum(int.from_bytes(u.payload, "big") for u in updates if u.stream_id == 0)
        assert total >= 50_000

    def test_no_stream_gets_credit_after_its_end(self) -> None:
        hand = self.opened()
        hand.say(data(1, bytes(900), end=True))
        assert hand.codec.consumed(1, 900) == b""
        assert hand.codec._intake.owed == 900

    def test_bytes_of_streams_that_are_over_still_count_for_the_connection(self) -> None:
        hand = asked()
        hand.ask(1, OK, end=False)
        hand.say(data(1, bytes(900), end=True))
        assert 1 not in hand.codec._streams
        assert hand.codec._held == {1: 900}
        hand.codec.consumed(1, 400)
        hand.codec.consumed(1, 9999)
        assert hand.codec._held == {}
        assert hand.codec._intake.owed == 900

    def test_a_reset_gives_back_what_is_still_held(self) -> None:
        hand = asked()
        hand.ask(1, OK, end=False)
        hand.say(data(1, bytes(900), end=True))
        hand.codec.send(Reset(1, Status.CANCELLED))
        assert hand.codec._held == {}
        assert hand.codec._intake.owed == 900

    def test_nothing_is_counted_twice_or_for_nothing(self) -> None:
        hand = self.opened()
        assert hand.codec.consumed(1, 10**6) == b""
        assert hand.codec.consumed(99, 10**6) == b""
        hand.say(data(1, b"abc"))
        hand.codec.consumed(1, 10**6)
        assert hand.codec._intake.owed == 3

    def test_a_connections_window_below_the_first_one(self) -> None:
        hand = Hand(server(own=Http2Limits(connection_window_bytes=Size(1000))))
        hand.ask(1, POST, end=False)
        for _ in range(4):
            hand.say(data(1, bytes(16_000)))
            assert hand.codec.consumed(1, 16_000) == b""
        hand.say(data(1, bytes(1_100)))
        (update,) = parse(hand.codec.consumed(1, 1_100))
        assert int.from_bytes(update.payload, "big") == 4 * 16_000 + 1_100 - 64_535


class TestRoom:
    def test_the_smaller_window_counts(self) -> None:
        hand = serving()
        hand.ask(1)
        hand.ask(3)
        assert hand.codec.sendable(1) == 65_535
        hand.codec.send(Head(1, RESPONSE))
        hand.codec.send(Data(1, bytes(65_535)))
        assert (hand.codec.sendable(1), hand.codec.sendable(3)) == (0, 0)
        assert Credit() in hand.say(window_update(0, 10))
        assert (hand.codec.sendable(1), hand.codec.sendable(3)) == (0, 10)
        assert Credit(1) in hand.say(window_update(1, 4))
        assert hand.codec.sendable(1) == 4

    @pytest.mark.parametrize("stream_id", [0, 2, 3, 99, -1])
    def test_nothing_can_be_sent_where_nothing_is_open(self, stream_id: int) -> None:
        hand = serving()
        hand.ask(1)
        assert hand.codec.sendable(stream_id) == 0

    def test_credit_is_only_told_to_who_may_wait_for_it(self) -> None:
        hand = serving()
        hand.ask(1)
        frames = hand.say(window_update(0, 1) + window_update(1, 1))
        assert not [f for f in frames if isinstance(f, Credit)]


def test_after_the_end_no_credit_is_given() -> None:
    hand = serving()
    hand.ask(1, POST, end=False)
    hand.say(data(1, bytes(16_000)))
    hand.say(b"\xff" * 9)
    assert hand.codec.consumed(1, 16_000) == b""


def test_a_clients_goodbye() -> None:
    hand = asked()
    (last,) = parse(hand.codec.goaway())
    assert last.payload == bytes(8)
    assert hand.codec.goaway() == b""
    assert hand.ask(1, OK)
