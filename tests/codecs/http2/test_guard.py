"""Attacks: each ends with ENHANCE_YOUR_CALM after a bounded number of frames; honest use goes on."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codecs.http2.driving import (
    GET,
    OK,
    POST,
    RESPONSE,
    UPLOAD,
    Hand,
    asked,
    continuations,
    crime,
    data,
    heads,
    parse,
    resets,
    server,
    serving,
    state_of,
)
from xproxy.codecs.http2.faults import ConnectionFault
from xproxy.codecs.http2.guard import Guard
from xproxy.codecs.http2.limits import Http2Limits
from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.wire import (
    CONTINUATION,
    HEADERS,
    PREFACE,
    PRIORITY,
    SETTINGS,
    Setting,
    frame,
    ping,
    rst_stream,
    settings,
    window_update,
)
from xproxy.model.frames import Data, Head, Reset, Violation
from xproxy.model.limits import KIB, Limits
from xproxy.model.status import Status

CALM = ErrorCode.ENHANCE_YOUR_CALM


def until_cut_off(hand: Hand, make: Callable[[int], bytes], most: int) -> int:
    """Repeat a frame; return after how many the connection was ended."""
    for count in range(1, most + 1):
        frames = hand.say(make(count))
        if frames and isinstance(frames[-1], Violation):
            assert crime(frames) is CALM
            assert frames[-1].reason is Status.RESOURCE_EXHAUSTED
            return count
    raise AssertionError(f"still there after {most}")


def stream_id(count: int) -> int:
    return 2 * count - 1


@pytest.mark.parametrize(
    ("make", "most"),
    [
        pytest.param(lambda _: ping(bytes(8)), 1010, id="ping (CVE-2019-9512)"),
        pytest.param(lambda _: ping(bytes(8), ack=True), 1010, id="ping acknowledgements"),
        pytest.param(lambda _: settings(()), 1010, id="settings (CVE-2019-9515)"),
        pytest.param(lambda _: frame(SETTINGS, 1, 0, b""), 1010, id="settings acknowledgements"),
        pytest.param(lambda _: frame(0x77, 0, 0, bytes(100)), 1010, id="unknown frames"),
        pytest.param(lambda n: frame(PRIORITY, 0, n, bytes(5)), 210, id="priority (CVE-2019-9513)"),
        pytest.param(lambda _: window_update(0, 1), 110, id="window updates"),
        pytest.param(lambda _: frame(0x7, 0, 0, bytes(8)), 1010, id="goaway"),
    ],
)
def test_frames_that_serve_nobody(make: Callable[[int], bytes], most: int) -> None:
    for hand in (serving(), asked()):
        assert until_cut_off(hand, make, most) > most // 3


def test_rapid_reset() -> None:
    """CVE-2023-44487."""
    hand = serving()
    count = until_cut_off(
        hand, lambda n: hand.head(stream_id(n), GET) + rst_stream(stream_id(n), 8), 101
    )
    assert count == 101
    assert not state_of(hand.codec).streams


def test_heads_that_are_too_long_are_soon_too_many() -> None:
    """CVE-2019-9516 at its mildest: read for their effect on the table, each costs milliseconds."""
    hand = serving()
    pairs = [*GET, *[("x", "")] * 3000]
    assert until_cut_off(hand, lambda n: hand.head(stream_id(n), pairs), 20) == 11
    # But not where they are the few among many that are served.
    hand = serving()
    for number in range(1, 101):
        hand.ask(stream_id(number))
        hand.codec.send(Head(stream_id(number), RESPONSE, b"", end=True))
    for number in range(101, 106):
        assert crime(hand.ask(stream_id(number), pairs)) is None


def test_made_you_reset() -> None:
    """CVE-2025-8671: the client breaks the protocol on each stream, so that we reset it."""
    hand = serving()
    until_cut_off(
        hand, lambda n: hand.head(stream_id(n), GET) + window_update(stream_id(n), 0), 101
    )
    hand = serving()
    until_cut_off(hand, lambda n: hand.head(stream_id(n), (*GET, ("te", "gzip"))), 101)


def test_streams_above_the_limit_without_end() -> None:
    hand = Hand(server(Limits(max_streams=10)))
    assert until_cut_off(hand, lambda n: hand.head(stream_id(n), GET), 200) <= 121
    assert len(state_of(hand.codec).streams) == 10


def test_streams_above_a_limit_that_the_client_could_not_know_yet() -> None:
    """It may open as many as it likes until it has read our SETTINGS (RFC 9113 §6.5.2), and some do."""
    hand = Hand(server(Limits(max_streams=10)), started=False)
    hand.say(PREFACE + settings(()))
    for number in range(1, 1011):
        assert crime(hand.ask(stream_id(number))) is None
    until_cut_off(hand, lambda n: hand.head(stream_id(1010 + n), GET), 130)


def test_frames_on_streams_that_are_over() -> None:
    hand = serving()
    hand.ask()
    hand.codec.send(Head(1, RESPONSE, b"", end=True))
    until_cut_off(hand, lambda _: rst_stream(1, 8), 1010)
    hand = asked((UPLOAD,))
    hand.codec.send(Reset(1, Status.CANCELLED))
    until_cut_off(hand, lambda _: data(1, b"x"), 1010)


def test_empty_frames() -> None:
    """CVE-2019-9518."""
    hand = serving()
    hand.ask(1, POST, end=False)
    assert until_cut_off(hand, lambda _: data(1, b""), 12) == 11
    hand = serving()
    hand.ask(1, POST, end=False)
    assert until_cut_off(hand, lambda _: data(1, b"", padding=9), 12) == 11
    hand = serving()
    hand.say(frame(HEADERS, 0, 1, b""))
    assert until_cut_off(hand, lambda _: frame(CONTINUATION, 0, 1, b""), 12) == 10


def test_continuations_without_end() -> None:
    """CVE-2024-27316 and its relatives."""
    hand = serving()
    hand.say(frame(HEADERS, 0, 1, b"\x82"))
    assert until_cut_off(hand, lambda _: frame(CONTINUATION, 0, 1, b"\x82"), 40) == 29
    hand = serving()
    hand.say(frame(HEADERS, 0, 1, bytes(16 * KIB)))
    assert until_cut_off(hand, lambda _: frame(CONTINUATION, 0, 1, bytes(16 * KIB)), 20) == 16


def test_the_hpack_bomb_is_stopped_while_it_unfolds() -> None:
    """One long entry of the table, named again and again by a byte each."""
    encoder = hpack.Encoder()
    bomb = encoder.encode([("x-bomb", "v" * 4000)])
    index = encoder.encode([("x-bomb", "v" * 4000)])
    assert len(index) == 1
    hand = serving()
    hand.say(frame(HEADERS, 5, 1, bomb))
    tracemalloc.start()
    try:
        frames = hand.say(frame(HEADERS, 5, 3, index * 16_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert crime(frames) is CALM
    assert peak < 256 * KIB


def test_settings_with_thousands_of_values() -> None:
    values = [(Setting.INITIAL_WINDOW_SIZE, n) for n in range(2000)]
    assert crime(serving().say(settings(values))) is CALM
    assert crime(serving().say(settings(values[:32]))) is None


def test_what_a_peer_sends_too_late_costs_no_window() -> None:
    """A connection must not starve of bytes that nobody got."""
    hand = asked((UPLOAD, UPLOAD))
    hand.codec.send(Reset(1, Status.CANCELLED))
    piece = bytes(16_000)
    for _ in range(5000):
        frames = hand.say(data(1, piece))
        assert crime(frames) is None, frames
    assert state_of(hand.codec).inbound > 8_000_000


def test_a_peer_that_reads_nothing_costs_its_window() -> None:
    """CVE-2019-9517: nothing is made for a window that is shut."""
    hand = serving()
    hand.say(settings(((Setting.INITIAL_WINDOW_SIZE, 0),)))
    for number in range(1, 50):
        hand.ask(stream_id(number))
        hand.codec.send(Head(stream_id(number), RESPONSE))
        assert hand.codec.sendable(stream_id(number)) == 0


def test_memory_of_a_thousand_streams_is_small() -> None:
    hand = serving(own=Http2Limits(max_concurrent_streams=None))
    tracemalloc.start()
    try:
        for number in range(1, 1025):
            hand.codec.receive(hand.head(stream_id(number), POST, end=False))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 512 * KIB
    assert resets(hand.ask(2049)) == {2049: ErrorCode.REFUSED_STREAM}


class TestHonestUse:
    def test_a_client_that_cancels_some(self) -> None:
        hand = serving()
        for number in range(1, 2000):
            frames = hand.ask(stream_id(number))
            assert heads(frames)
            if number % 3 == 0:
                assert crime(hand.say(rst_stream(stream_id(number), 8))) is None
            else:
                hand.codec.send(Head(stream_id(number), RESPONSE, b"", end=True))

    def test_a_client_that_cancels_all_once_it_has_an_answer(self) -> None:
        """What watchers do."""
        hand = serving()
        for number in range(1, 1000):
            hand.ask(stream_id(number))
            hand.codec.send(Head(stream_id(number), RESPONSE))
            assert crime(hand.say(rst_stream(stream_id(number), 8))) is None

    def test_a_stream_of_messages_with_pings_and_window_updates(self) -> None:
        """As gRPC's C core does it: two window updates and a ping for each message."""
        hand = serving()
        hand.ask(1, POST, end=False)
        hand.codec.send(Head(1, RESPONSE))
        for _ in range(5000):
            chatter = window_update(0, 9) + window_update(1, 9) + ping(bytes(8))
            frames = hand.say(chatter, data(1, b"message"))
            assert crime(frames) is None
            hand.codec.send(Data(1, b"message"))
            hand.codec.consumed(1, 7)

    def test_a_silent_connection_whose_peer_is_asked_for_life(self) -> None:
        hand = asked()
        hand.ask(1, OK)
        for _ in range(5000):
            hand.codec.elapsed(15.0)
            (asked_back,) = parse(hand.codec.heartbeat())
            frames = hand.say(ping(asked_back.payload, ack=True), ping(bytes(8)))
            assert crime(frames) is None


def test_windows_of_a_byte() -> None:
    """CVE-2019-9511: each costs us a frame, and asks for the next."""
    hand = serving()
    hand.say(settings([(Setting.INITIAL_WINDOW_SIZE, 0)]))
    hand.ask()
    hand.codec.send(Head(1, RESPONSE))

    def give(_: int) -> bytes:
        if room := hand.codec.sendable(1):
            hand.codec.send(Data(1, bytes(room)))
        return window_update(1, 1)

    assert until_cut_off(hand, give, 110) > 100


def test_windows_of_a_small_reader_are_allowed() -> None:
    hand = serving()
    hand.say(settings([(Setting.INITIAL_WINDOW_SIZE, 64)]))
    hand.ask()
    hand.codec.send(Head(1, RESPONSE))
    for _ in range(2000):
        hand.codec.send(Data(1, bytes(hand.codec.sendable(1))))
        assert not any(isinstance(f, Violation) for f in hand.say(window_update(1, 64)))


def test_many_small_messages_with_a_window_update_each_are_allowed() -> None:
    hand = serving()
    hand.ask()
    hand.codec.send(Head(1, RESPONSE))
    for _ in range(2000):
        hand.codec.send(Data(1, b"x" * 6))
        frames = hand.say(window_update(1, 6) + window_update(0, 6))
        assert not any(isinstance(f, Violation) for f in frames)


class TestTime:
    """Rates are bounded, and never what a connection does in its life."""

    @pytest.mark.parametrize("open_hand", [serving, asked])
    @pytest.mark.parametrize(
        ("make", "pause"),
        [
            pytest.param(lambda _: ping(bytes(8)), 1.0, id="a PING each second"),
            pytest.param(lambda _: ping(bytes(8)), 0.01, id="a hundred PINGs each second"),
            pytest.param(lambda _: settings(()), 0.1, id="SETTINGS"),
            pytest.param(lambda _: frame(0x77, 0, 0, b""), 0.1, id="unknown"),
            pytest.param(lambda _: frame(PRIORITY, 0, 1, bytes(5)), 0.1, id="PRIORITY"),
            pytest.param(lambda _: window_update(0, 1), 0.1, id="WINDOW_UPDATE"),
            pytest.param(lambda _: frame(0x7, 0, 0, bytes(8)), 0.1, id="GOAWAY"),
        ],
    )
    def test_idle_frames_beside_a_quiet_stream(
        self, make: Callable[[int], bytes], pause: float, open_hand: Callable[[], Hand]
    ) -> None:
        hand = open_hand()
        if open_hand is serving:
            hand.ask(1, POST, end=False)
        for number in range(20_000):
            hand.codec.elapsed(pause)
            assert crime(hand.say(make(number))) is None, number

    def test_empty_data_now_and_then(self) -> None:
        hand = serving()
        hand.ask(1, POST, end=False)
        for _ in range(1000):
            hand.codec.elapsed(1.0)
            assert crime(hand.say(data(1, b""))) is None

    @pytest.mark.parametrize("at_once", [1, 100])
    @pytest.mark.parametrize("waited", [0.3, 1.0, 2.0])
    def test_calls_that_are_given_up_while_the_upstream_hangs(
        self, waited: float, at_once: int
    ) -> None:
        hand = serving()
        for turn in range(10_000 // at_once):
            ids = [stream_id(turn * at_once + n) for n in range(1, at_once + 1)]
            hand.say(*[hand.head(number, POST, end=False) for number in ids])
            hand.codec.elapsed(waited)
            assert crime(hand.say(*[rst_stream(number, 8) for number in ids])) is None, turn

    def test_calls_that_the_client_side_gives_up(self) -> None:
        """Their late answers are no flood."""
        hand = asked(())
        for _ in range(10_000):
            number = hand.codec.next_stream_id()  # type: ignore[union-attr]  # it is a client
            hand.codec.send(Head(number, UPLOAD, b"", False))
            hand.codec.send(Reset(number, Status.CANCELLED))
            frames = hand.say(hand.head(number, OK, end=False), data(number, b"x"))
            assert crime(frames) is None

    def test_a_slow_reset_is_no_licence(self) -> None:
        """Who has waited once is cut off like any other when it floods."""
        hand = serving()
        hand.ask(1)
        hand.codec.elapsed(3600.0)
        count = until_cut_off(
            hand, lambda n: hand.head(stream_id(n + 1), GET) + rst_stream(stream_id(n + 1), 8), 110
        )
        assert count == 101

    def test_a_flood_that_keeps_its_pace_is_seen(self) -> None:
        hand = serving()

        def make(number: int) -> bytes:
            hand.codec.elapsed(0.001)
            return ping(bytes(8))

        assert until_cut_off(hand, make, 4000) >= 900
        hand = serving()

        def reset(number: int) -> bytes:
            hand.codec.elapsed(0.01)
            return hand.head(stream_id(number), GET) + rst_stream(stream_id(number), 8)

        assert until_cut_off(hand, reset, 300) > 100

    @given(
        st.lists(
            st.tuples(st.floats(0.0, 5.0), st.integers(0, 60)),
            max_size=60,
        )
    )
    def test_a_rate_below_the_bound_is_never_cut_off(self, bursts: list[tuple[float, int]]) -> None:
        """Whatever the pauses: as long as each burst is within what its pause has earned."""
        hand = serving()
        for pause, pings in bursts:
            hand.codec.elapsed(pause)
            for _ in range(min(pings, int(pause * 200))):
                assert crime(hand.say(ping(bytes(8)))) is None


def test_the_past_counts_half() -> None:
    guard = Guard(Http2Limits())
    for _ in range(4095):
        guard.on_stream()
    for _ in range(1000):
        guard.on_control()
    guard.on_stream()
    assert (guard.streams, guard.control) == (2048, 500)


def test_limits_are_the_callers() -> None:
    guard = Guard(Http2Limits(max_control_frames=3))
    for _ in range(3):
        guard.on_control()
    with pytest.raises(ConnectionFault, match="4 control frames"):
        guard.on_control()
    guard.elapsed(4.0)
    guard.on_control()


def test_a_block_in_many_small_pieces_is_allowed() -> None:
    hand = serving()
    block = hand.block((*GET, ("x-a", "b" * 200)))
    assert len(heads(hand.say(continuations(1, block, [20] * 8)))) == 1
