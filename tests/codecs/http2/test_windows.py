"""Windows: credit in large pieces, never more than came, and as their consumers see it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codecs.http2.driving import (
    OK,
    POST,
    RESPONSE,
    Hand,
    asked,
    crime,
    data,
    parse,
    replies,
    server,
    serving,
    state_of,
)
from xproxy.codecs.http2.limits import FIRST_WINDOW, Http2Limits
from xproxy.codecs.http2.windows import Windows
from xproxy.codecs.http2.wire import (
    rst_stream,
    window_update,
)
from xproxy.model.frames import Credit, Data, Head, Reset
from xproxy.model.limits import KIB, MIB, Size
from xproxy.model.status import Status


def test_credit_is_given_at_half_a_window() -> None:
    windows = Windows(Http2Limits(connection_window_bytes=Size(100_000)))
    assert windows.inbound == 100_000
    windows.inbound -= 60_000
    assert windows.give(49_999) == b""
    assert windows.give(1) == window_update(0, 50_000)
    assert windows.inbound == 90_000
    assert windows.owed == 0


def test_a_small_window_holds_once_the_first_one_is_used_up() -> None:
    windows = Windows(Http2Limits(connection_window_bytes=Size(535)))
    assert windows.inbound == 65_535
    windows.inbound -= 65_535
    assert windows.give(65_000) == b""
    assert windows.give(535) == window_update(0, 535)


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

    def test_the_connections_comes_with_the_bytes(self) -> None:
        hand = self.opened()
        updates = []
        for _ in range(100):
            updates += parse(replies(hand.say(data(1, bytes(600)))))
            hand.codec.consumed(1, 600)
        total = sum(int.from_bytes(u.payload, "big") for u in updates if u.stream_id == 0)
        assert total >= 50_000

    def test_no_stream_gets_credit_after_its_end(self) -> None:
        hand = self.opened()
        hand.say(data(1, bytes(900), end=True))
        assert hand.codec.consumed(1, 900) == b""
        assert state_of(hand.codec).owed == 900

    def test_who_takes_nothing_holds_nobody_else_back(self) -> None:
        """Two uploads that nobody takes, and a third one: the connection's window stays open."""
        hand = Hand(server())
        for stream_id in (1, 3):
            hand.ask(stream_id, POST, end=False)
            for _ in range(4):
                hand.say(data(stream_id, bytes(16_384)))
        hand.ask(5, POST, end=False)
        for _ in range(4000):
            assert crime(hand.say(data(5, bytes(10_000)))) is None
            hand.codec.consumed(5, 10_000)
        assert state_of(hand.codec).inbound > FIRST_WINDOW

    def quick(self) -> Hand:
        """A client that got 64 KiB twice, and took them, so that the window has doubled."""
        hand = asked(own=Http2Limits(connection_window_bytes=Size(100_000)))
        hand.ask(1, OK, end=False)
        hand.say(data(1, bytes(16_384)), data(1, bytes(16_384)))
        (update,) = parse(hand.codec.consumed(1, 32_768))
        assert int.from_bytes(update.payload, "big") == 32_768 + 65_536
        assert state_of(hand.codec).spare == 100_000 - 65_536
        return hand

    def test_a_quick_stream_gets_a_larger_window(self) -> None:
        hand = asked()
        hand.ask(1, OK, end=False)
        for _ in range(8000):
            assert crime(hand.say(data(1, bytes(16_384)))) is None
            hand.codec.consumed(1, 16_384)
        assert state_of(hand.codec).streams[1].grown == 16 * MIB - 64 * KIB
        assert state_of(hand.codec).spare == 8 * MIB + 64 * KIB

    @pytest.mark.parametrize("how", ["end", "reset", "their reset", "fault"])
    def test_the_room_of_a_stream_is_free_after_it(self, how: str) -> None:
        hand = self.quick()
        if how == "end":
            hand.say(data(1, b"", end=True))
        elif how == "reset":
            hand.codec.send(Reset(1, Status.CANCELLED))
        elif how == "their reset":
            hand.say(rst_stream(1, 8))
        else:
            hand.say(window_update(1, 0))
        assert not state_of(hand.codec).streams
        assert state_of(hand.codec).spare == 100_000

    @pytest.mark.parametrize("how", ["taken", "given up"])
    def test_but_not_before_its_bytes_are_taken(self, how: str) -> None:
        hand = self.quick()
        hand.say(data(1, bytes(900), end=True))
        assert not state_of(hand.codec).streams
        assert state_of(hand.codec).held == {1: [900, 65_536]}
        if how == "taken":
            hand.codec.consumed(1, 400)
            assert state_of(hand.codec).spare == 100_000 - 65_536
            hand.codec.consumed(1, 9999)
        else:
            hand.codec.send(Reset(1, Status.CANCELLED))
        assert state_of(hand.codec).held == {}
        assert state_of(hand.codec).spare == 100_000

    @given(
        st.lists(
            st.tuples(st.integers(0, 7), st.integers(0, 16_384), st.integers(0, 40_000)),
            max_size=200,
        )
    )
    def test_what_a_peer_can_make_us_hold_is_bounded(
        self, steps: list[tuple[int, int, int]]
    ) -> None:
        """Whoever takes how much of what: the windows that are open and the bytes held stay within the sum."""
        own = Http2Limits(
            first_window_bytes=Size(20_000),
            connection_window_bytes=Size(70_000),
            stream_window_bytes=Size(60_000),
        )
        hand = Hand(server(own=own))
        codec = hand.codec
        for number in range(8):
            hand.ask(2 * number + 1, POST, end=False)
        for number, size, taken in steps:
            stream_id = 2 * number + 1
            size = min(size, 20_000 + state_of(codec).streams[stream_id].inbound)
            assert crime(hand.say(data(stream_id, bytes(size)))) is None
            codec.consumed(stream_id, taken)
            state = state_of(codec)
            streams = state.streams.values()
            assert sum(20_000 + s.inbound + s.unconsumed for s in streams) <= 8 * 20_000 + 70_000
            assert state.spare == 70_000 - sum(s.grown for s in streams)
            assert state.inbound > 0

    def test_nothing_is_counted_twice_or_for_nothing(self) -> None:
        hand = self.opened()
        assert hand.codec.consumed(1, 10**6) == b""
        assert hand.codec.consumed(99, 10**6) == b""
        hand.say(data(1, b"abc"))
        hand.codec.consumed(1, 10**6)
        assert state_of(hand.codec).owed == 3

    def test_a_connections_window_below_the_first_one(self) -> None:
        hand = Hand(server(own=Http2Limits(connection_window_bytes=Size(1000))))
        hand.ask(1, POST, end=False)
        for _ in range(4):
            hand.say(data(1, bytes(16_000)))
            assert not any(u.stream_id == 0 for u in parse(hand.codec.consumed(1, 16_000)))
        (update,) = parse(replies(hand.say(data(1, bytes(1_100)))))
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
