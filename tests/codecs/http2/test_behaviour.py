"""RFC 9113, what follows from a rule rather than breaks it: each test names its section."""

from __future__ import annotations

import struct
from collections.abc import Callable

import attrs
import pytest

from tests.codecs.http2.driving import (
    GET,
    OK,
    POST,
    REQUEST,
    RESPONSE,
    Hand,
    asked,
    client,
    closed,
    continuations,
    crime,
    data,
    half_closed,
    heads,
    opened,
    parse,
    replies,
    resets,
    server,
    serving,
    state_of,
    waiting,
)
from xproxy.codecs.http2.client import ClientCodec
from xproxy.codecs.http2.limits import Http2Limits
from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.wire import (
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    SETTINGS,
    SETTINGS_ACK,
    WITH_PRIORITY,
    Setting,
    frame,
    goaway,
    ping,
    rst_stream,
    settings,
    window_update,
)
from xproxy.model.errors import HeadRefused, LocalProtocolError
from xproxy.model.frames import Credit, Data, GoAway, Head, Reset, Trailers
from xproxy.model.headers import Headers
from xproxy.model.limits import Limits, Size
from xproxy.model.message import RequestHead, ResponseHead, Target
from xproxy.model.status import Status

CONNECT = ((":method", "CONNECT"), (":authority", "a.example:443"))


class TestPreface:
    """§3.4."""

    def test_a_server_says_settings_first(self) -> None:
        hand = Hand(server(), started=False)
        assert parse(hand.greeting)[0].kind == SETTINGS
        assert hand.codec.receive(b"") == []

    def test_a_client_says_the_preface_then_settings(self) -> None:
        hand = Hand(client(), started=False)
        assert hand.greeting.startswith(PREFACE)
        assert parse(hand.greeting)[0].kind == SETTINGS

    def test_what_is_sent_first_has_the_preface_before_it(self) -> None:
        assert client().send(Head(1, REQUEST, b"", end=True)).startswith(PREFACE)
        assert client().heartbeat().startswith(PREFACE)
        assert parse(server().goaway())[0].kind == SETTINGS

    @pytest.mark.parametrize("size", range(1, 25))
    def test_another_preface_is_an_error_at_its_first_wrong_byte(self, size: int) -> None:
        hand = Hand(server(), started=False)
        wrong = PREFACE[: size - 1] + b"!"
        assert crime(hand.say(wrong)) is ErrorCode.PROTOCOL_ERROR

    @pytest.mark.parametrize("role", [server, client])
    @pytest.mark.parametrize(
        "wire", [ping(bytes(8)), SETTINGS_ACK, window_update(0, 1), data(1, b"")]
    )
    def test_the_first_frame_must_be_settings(
        self, role: Callable[[], object], wire: bytes
    ) -> None:
        codec = role()
        hand = Hand(codec, started=False)  # type: ignore[arg-type]  # one of the two
        first = PREFACE if role is server else b""
        assert crime(hand.say(first + wire)) is ErrorCode.PROTOCOL_ERROR

    def test_requests_may_follow_before_anything_was_answered(self) -> None:
        hand = Hand(server(), started=False)
        frames = hand.say(PREFACE + settings(()), hand.head(1, GET))
        assert len(heads(frames)) == 1


class TestFrames:
    """§4, §5.5, §6."""

    def test_unknown_kinds_flags_and_the_reserved_bit_are_ignored(self) -> None:
        """§4.1, §5.5."""
        hand = serving()
        unknown = frame(0x42, 0xFF, 7, b"whatever")
        ping_with_bits = frame(PING, 0xFE, 0x8000_0000, b"12345678")
        frames = hand.say(unknown + ping_with_bits)
        assert [s.kind for s in parse(replies(frames))] == [PING]

    def test_a_ping_is_answered_with_its_payload(self) -> None:
        """§6.7."""
        for hand in (serving(), asked()):
            (seen,) = parse(replies(hand.say(ping(b"abcdefgh"))))
            assert (seen.kind, seen.flags, seen.payload) == (PING, 1, b"abcdefgh")
            assert parse(replies(hand.say(ping(b"abcdefgh", ack=True)))) == []

    def test_settings_are_acknowledged_in_order(self) -> None:
        """§6.5.3."""
        hand = serving()
        frames = hand.say(settings(((Setting.INITIAL_WINDOW_SIZE, 10),)) + ping(bytes(8)))
        assert [s.kind for s in parse(replies(frames))] == [SETTINGS, PING]

    def test_unknown_settings_are_ignored(self) -> None:
        """§6.5.2."""
        assert crime(serving().say(settings(((0xFE03, 1), (0x99, 2**32 - 1))))) is None

    def test_of_a_setting_given_twice_the_last_counts(self) -> None:
        """§6.5.3."""
        hand = opened()
        hand.say(settings(((Setting.INITIAL_WINDOW_SIZE, 1), (Setting.INITIAL_WINDOW_SIZE, 7))))
        assert hand.codec.sendable(1) == 7

    def test_padding_and_priority_are_taken_off(self) -> None:
        """§6.1, §6.2, §6.3."""
        hand = serving()
        block = hand.block(POST)
        flags = END_HEADERS | PADDED | WITH_PRIORITY
        wire = frame(HEADERS, flags, 1, b"\x03" + bytes(5) + block + bytes(3))
        wire += frame(PRIORITY, 0, 9, bytes(5)) + data(1, b"body", padding=200, end=True)
        frames = hand.say(wire)
        assert [f.data for f in frames if isinstance(f, Head | Data)] in ([b"body"], [b"", b"body"])

    def test_frames_are_no_longer_than_the_peer_takes(self) -> None:
        """§4.2."""
        hand = serving()
        hand.say(settings(((Setting.INITIAL_WINDOW_SIZE, 10**6),)) + window_update(0, 10**6))
        hand.ask()
        sent = parse(hand.codec.send(Head(1, RESPONSE, bytes(40_000), end=True)))
        assert [len(s.payload) for s in sent[1:]] == [16384, 16384, 7232]
        assert [s.flags for s in sent[1:]] == [0, 0, END_STREAM]
        hand.say(settings(((Setting.MAX_FRAME_SIZE, 50_000),)))
        hand.ask(3)
        assert len(parse(hand.codec.send(Head(3, RESPONSE, bytes(40_000), end=True)))) == 2

    def test_a_long_block_goes_on_in_continuations(self) -> None:
        """§4.3, §6.10."""
        hand = serving()
        hand.ask()
        head = attrs.evolve(RESPONSE, headers=RESPONSE.headers.add("x", "v" * 40_000))
        sent = parse(hand.codec.send(Head(1, head, b"", end=True)))
        assert [s.kind for s in sent] == [HEADERS, CONTINUATION, CONTINUATION]
        assert [s.flags for s in sent] == [END_STREAM, 0, END_HEADERS]

    @pytest.mark.parametrize("sizes", [(0,), (1,), (1, 1, 1), (5, 0, 3)])
    def test_a_block_in_pieces_is_one_block(self, sizes: tuple[int, ...]) -> None:
        """§4.3."""
        own = Http2Limits(max_empty_frames=2)
        hand = Hand(server(own=own))
        (head,) = heads(hand.say(continuations(1, hand.block((*GET, ("x-a", "1"))), sizes)))
        assert head.message.headers["x-a"] == "1"
        assert head.end


class TestStreams:
    """§5."""

    def test_what_a_peer_sends_before_it_knows_of_our_reset_is_ignored(self) -> None:
        """§5.1 closed."""
        hand = opened()
        hand.codec.send(Reset(1, Status.CANCELLED))
        trailers = hand.head(1, (("x-new", "indexed"),))
        frames = hand.say(data(1, b"late"), trailers, rst_stream(1, 8), window_update(1, 5))
        assert crime(frames) is None
        assert not [f for f in frames if isinstance(f, Head | Data | Trailers | Reset)]
        (head,) = heads(hand.ask(3, (*GET, ("x-new", "indexed"))))
        assert head.message.headers["x-new"] == "indexed"

    def test_window_update_and_reset_may_follow_the_end(self) -> None:
        """§5.1 closed."""
        hand = closed()
        assert crime(hand.say(window_update(1, 5) + rst_stream(1, 8))) is None

    def test_priority_may_come_in_any_state(self) -> None:
        """§5.3.2."""
        for hand in (opened(), closed(), waiting()):
            for stream_id in (1, 2, 99):
                assert crime(hand.say(frame(PRIORITY, 0, stream_id, bytes(5)))) is None

    def test_above_the_limit_streams_are_refused(self) -> None:
        """§5.1.2."""
        hand = Hand(server(Limits(max_streams=2)))
        for stream_id in (1, 3):
            assert heads(hand.ask(stream_id))
        frames = hand.ask(5)
        assert resets(frames) == {5: ErrorCode.REFUSED_STREAM}
        assert not heads(frames)
        hand.codec.send(Head(1, RESPONSE, b"", end=True))
        assert heads(hand.ask(7))

    def test_a_reset_of_the_peer_ends_the_stream(self) -> None:
        """§6.4, §7: codes that nobody knows are INTERNAL_ERROR."""
        for code, status in (
            (8, Status.CANCELLED),
            (7, Status.UNAVAILABLE),
            (999, Status.INTERNAL),
        ):
            hand = asked()
            assert hand.say(rst_stream(1, code))[0] == Reset(1, status, code == 7)


class TestFlow:
    """§5.2, §6.9."""

    def test_a_window_that_shrinks_may_be_negative(self) -> None:
        """§6.9.2."""
        hand = opened()
        hand.codec.send(Head(1, RESPONSE))
        hand.codec.send(Data(1, bytes(100)))
        hand.say(settings(((Setting.INITIAL_WINDOW_SIZE, 40),)))
        assert hand.codec.sendable(1) == 0
        assert Credit(1) not in hand.say(window_update(1, 60))
        assert Credit(1) in hand.say(window_update(1, 5))
        assert hand.codec.sendable(1) == 5

    def test_more_than_the_connections_window_is_an_error(self) -> None:
        """§6.9.1."""
        own = Http2Limits(
            connection_window_bytes=Size(65_535),
            first_window_bytes=Size(100_000),
            frame_bytes=Size(100_000),
        )
        hand = Hand(server(own=own))
        hand.ask(1, POST, end=False)
        wire = [data(1, bytes(66_000))]
        assert crime(hand.say(*wire)) is ErrorCode.FLOW_CONTROL_ERROR

    def test_more_than_a_streams_window_is_an_error_of_the_stream(self) -> None:
        """§6.9.1."""
        own = Http2Limits(stream_window_bytes=Size(20_000))
        hand = Hand(server(own=own))
        hand.ask(1, POST, end=False)
        frames = hand.say(data(1, bytes(16_384)), data(1, bytes(16_384)))
        assert resets(frames) == {1: ErrorCode.FLOW_CONTROL_ERROR}

    def test_our_window_is_smaller_only_once_the_peer_knows(self) -> None:
        """§6.9.3."""
        own = Http2Limits(stream_window_bytes=Size(10))
        hand = Hand(server(own=own), started=False)
        hand.say(PREFACE + settings(()))
        hand.ask(1, POST, end=False)
        assert resets(hand.say(data(1, bytes(11)))) == {}
        assert resets(hand.say(SETTINGS_ACK + data(1, b"x"))) == {1: ErrorCode.FLOW_CONTROL_ERROR}

    def test_only_data_is_counted(self) -> None:
        """§6.9."""
        hand = serving()
        before = state_of(hand.codec).inbound
        hand.ask()
        assert state_of(hand.codec).inbound == before


class TestGoodbye:
    """§6.8."""

    def test_a_drain_takes_two_steps(self) -> None:
        hand = opened()
        first, asked_back = parse(hand.codec.goaway())
        assert (first.kind, first.payload) == (GOAWAY, struct.pack(">II", 2**31 - 1, 0))
        assert heads(hand.ask(3))  # it crossed the GOAWAY
        (last,) = parse(replies(hand.say(ping(asked_back.payload, ack=True))))
        assert last.payload == struct.pack(">II", 3, 0)
        assert resets(hand.ask(5)) == {5: ErrorCode.REFUSED_STREAM}
        assert hand.codec.send(Head(1, RESPONSE, b"", end=True))

    @pytest.mark.parametrize("state", [closed, half_closed])
    def test_what_crosses_the_goodbye_is_served_whatever_was_in_flight(
        self, state: Callable[[], Hand]
    ) -> None:
        hand = state()
        first, asked_back = parse(hand.codec.goaway())
        assert first.payload == struct.pack(">II", 2**31 - 1, 0)
        assert hand.codec.goaway() == b""
        if hand.codec.sendable(1):
            assert parse(hand.codec.send(Head(1, RESPONSE, b"", end=True)))[-1].kind == HEADERS
        assert heads(hand.ask(3))
        (last,) = parse(replies(hand.say(ping(asked_back.payload, ack=True))))
        assert last.payload == struct.pack(">II", 3, 0)

    def test_streams_above_the_peers_last_are_dropped(self) -> None:
        hand = asked((REQUEST, REQUEST, REQUEST))
        assert hand.say(goaway(3, 0)) == [GoAway(3, Status.OK)]
        assert heads(hand.ask(3, OK))
        with pytest.raises(LocalProtocolError):
            hand.codec.send(Head(7, REQUEST, b"", end=True))

    def test_a_second_goaway_may_lower_the_first(self) -> None:
        hand = asked((REQUEST, REQUEST))
        frames = hand.say(goaway(2**31 - 1, 0) + goaway(1, 0xB))
        assert frames == [GoAway(2**31 - 1, Status.OK), GoAway(1, Status.RESOURCE_EXHAUSTED)]


class TestMessages:
    """§8."""

    def test_a_request(self) -> None:
        """§8.3.1: the same message as HTTP/1.1 would make of it."""
        (head,) = heads(serving().ask(1, (*GET, ("x-a", "1"), ("te", "trailers"))))
        message = head.message
        assert isinstance(message, RequestHead)
        assert (message.service, message.method) == ("a.example", "GET")
        assert message.extra == Target(path="/", scheme="http", version="2")
        assert message.headers.pairs == (("x-a", "1"), ("te", "trailers"))

    def test_host_stands_for_authority(self) -> None:
        """§8.3.1."""
        (head,) = heads(serving().ask(1, (*GET[:3], ("host", "b.example:80"))))
        assert isinstance(head.message, RequestHead)
        assert head.message.service == "b.example:80"
        assert "host" not in head.message.headers

    def test_crumbs_of_a_cookie_are_joined(self) -> None:
        """§8.2.3."""
        crumbs = (("cookie", "a=b"), ("x", "1"), ("cookie", "c=d"), ("cookie", "e=f"))
        (head,) = heads(serving().ask(1, (*GET, *crumbs)))
        assert head.message.headers.pairs == (("cookie", "a=b; c=d; e=f"), ("x", "1"))

    def test_options_of_the_server_itself(self) -> None:
        """§8.3.1."""
        pairs = ((":method", "OPTIONS"), (":scheme", "http"), (":path", "*"), GET[3])
        (head,) = heads(serving().ask(1, pairs))
        assert isinstance(head.message, RequestHead)
        assert head.message.path == "*"

    @pytest.mark.parametrize(
        ("body", "good"), [(b"12345", True), (b"1234", False), (b"123456", False)]
    )
    def test_a_body_has_the_length_declared(self, body: bytes, good: bool) -> None:
        """§8.1.1."""
        declared = ("content-length", "5")
        hand = serving()
        hand.ask(1, (*POST, declared), end=False)
        frames = hand.say(data(1, body, end=True))
        assert resets(frames) == ({} if good else {1: ErrorCode.PROTOCOL_ERROR})
        hand = asked()
        hand.ask(1, (*OK, declared), end=False)
        frames = hand.say(data(1, body[:2]), data(1, body[2:], end=True))
        assert resets(frames) == ({} if good else {1: ErrorCode.PROTOCOL_ERROR})

    def test_trailers_must_not_end_a_body_short(self) -> None:
        """§8.1.1."""
        hand = serving()
        hand.ask(1, (*POST, ("content-length", "5")), end=False)
        frames = hand.say(data(1, b"123"), hand.head(1, (("x", "y"),)))
        assert resets(frames) == {1: ErrorCode.PROTOCOL_ERROR}

    @pytest.mark.parametrize(("method", "code"), [("HEAD", "200"), ("GET", "304")])
    def test_a_response_without_a_body_may_tell_a_length(self, method: str, code: str) -> None:
        """§8.1.1."""
        message = attrs.evolve(REQUEST, method=method)
        hand = asked((message,))
        (head,) = heads(hand.ask(1, ((":status", code), ("content-length", "5"))))
        assert head.end
        assert head.message.headers["content-length"] == "5"
        hand = asked((message,))
        hand.ask(1, ((":status", code), ("content-length", "5")), end=False)
        assert resets(hand.say(data(1, b"12345", end=True))) == {1: ErrorCode.PROTOCOL_ERROR}

    def test_interim_responses_come_before_the_response(self) -> None:
        """§8.1."""
        hand = asked()
        early = hand.head(1, ((":status", "103"), ("link", "</a>")), end=False)
        frames = hand.say(early + early, hand.head(1, OK))
        assert [head.interim for head in heads(frames)] == [True, True, False]

    def test_trailers_end_a_message(self) -> None:
        """§8.1."""
        hand = serving()
        hand.ask(1, POST, end=False)
        frames = hand.say(data(1, b"x"), hand.head(1, (("x-sum", "1"), ("content-type", "no"))))
        (trailers,) = [f for f in frames if isinstance(f, Trailers)]
        assert trailers.headers.pairs == (("x-sum", "1"),)

    def test_an_early_answer_ends_an_upload_without_an_error(self) -> None:
        """§8.1."""
        hand = opened()
        hand.codec.send(Head(1, RESPONSE, b"done", end=True))
        (seen,) = parse(hand.codec.send(Reset(1, Status.OK)))
        assert seen.payload == struct.pack(">I", ErrorCode.NO_ERROR)

    def test_connect_opens_a_tunnel(self) -> None:
        """§8.5."""
        hand = serving()
        (head,) = heads(hand.ask(1, CONNECT, end=False))
        assert isinstance(head.message, RequestHead)
        assert (head.message.service, head.message.path) == ("a.example:443", "")
        hand.codec.send(Head(1, RESPONSE))
        assert hand.say(data(1, b"up"))[0] == Data(1, b"up")
        assert parse(hand.codec.send(Data(1, b"down")))[0].payload == b"down"

    def test_a_block_too_long_for_us_is_refused_as_a_whole(self) -> None:
        """§10.5.1."""
        hand = serving()
        pairs = [*GET, *((f"x-{i}", "v") for i in range(150))]
        frames = hand.ask(1, pairs)
        assert not heads(frames)
        seen = parse(replies(frames))
        assert dict(hand.fields(seen[0]))[":status"] == "431"
        (head,) = heads(hand.ask(3))
        assert isinstance(head.message, RequestHead)

    def test_a_target_too_long_for_us_is_refused(self) -> None:
        """RFC 9110 §15.5.15."""
        hand = serving()
        frames = hand.say(
            hand.head(1, [(n, "/" + "a" * 9000 if n == ":path" else v) for n, v in POST], end=False)
        )
        seen = parse(replies(frames))
        assert dict(hand.fields(seen[0]))[":status"] == "414"
        assert resets(frames) == {1: ErrorCode.NO_ERROR}

    def test_codes_of_responses(self) -> None:
        hand = asked()
        (head,) = heads(hand.ask(1, ((":status", "503"), ("retry-after", "1"))))
        assert isinstance(head.message, ResponseHead)
        assert head.message.status is Status.RESOURCE_EXHAUSTED


class TestHeadSizes:
    """§6.5.2, §10.5.1: what a peer says of header lists is kept, and one of its own that is too long fails alone."""

    BOUND = settings(((Setting.MAX_HEADER_LIST_SIZE, 1000),))
    LONG = Headers((("x-long", "v" * 2000),))

    def test_a_request_above_the_servers_bound_is_refused_here(self) -> None:
        hand = asked(())
        hand.say(self.BOUND)
        before = hand.codec.snapshot()
        with pytest.raises(HeadRefused, match="the peer takes 1000"):
            hand.codec.send(Head(1, attrs.evolve(REQUEST, headers=self.LONG), b"", True))
        assert hand.codec.snapshot() == before
        assert hand.codec.send(Head(1, REQUEST, b"", True))

    def test_fields_that_were_added_count(self) -> None:
        hand = asked(())
        hand.say(self.BOUND)
        added = REQUEST.adding((("x-added", "v" * 900),))
        with pytest.raises(HeadRefused):
            hand.codec.send(Head(1, added, b"", True))

    def test_a_long_one_is_premature_until_the_server_has_said_what_it_takes(self) -> None:
        for bound, refused in ((1000, True), (100_000, False)):
            hand = Hand(client(), started=False)
            codec = hand.codec
            assert isinstance(codec, ClientCodec)
            long = attrs.evolve(REQUEST, headers=Headers((("x-long", "v" * 9000),)))
            assert codec.premature(long)
            with pytest.raises(LocalProtocolError):
                codec.send(Head(1, long, b"", True))
            hand.say(settings(((Setting.MAX_HEADER_LIST_SIZE, bound),)))
            assert not codec.premature(long)
            if refused:
                with pytest.raises(HeadRefused):
                    codec.send(Head(1, long, b"", True))
            else:
                assert HEADERS in [s.kind for s in parse(codec.send(Head(1, long, b"", True)))]

    def test_answers_and_trailers_above_the_clients_bound(self) -> None:
        hand = half_closed()
        hand.say(self.BOUND)
        long = attrs.evolve(RESPONSE, headers=self.LONG)
        interim = ResponseHead(status=Status.OK, native_status=103, headers=self.LONG)
        assert hand.codec.send(Head(1, interim, interim=True)) == b""
        with pytest.raises(HeadRefused):
            hand.codec.send(Head(1, long, b"", True))
        hand.codec.send(Head(1, RESPONSE))
        with pytest.raises(HeadRefused):
            hand.codec.send(Trailers(1, self.LONG))
        assert hand.codec.send(Data(1, b"", True))

    @pytest.mark.parametrize("call", [False, True])
    def test_a_request_that_is_too_long_is_answered_alone(self, call: bool) -> None:
        hand = serving(Limits(max_head_bytes=1000))
        hand.ask(1)
        pairs = [*POST, ("x-long", "v" * 1500), ("x-kept", "in the table")]
        if call:
            pairs.append(("content-type", "application/grpc"))
        (answer,) = [s for s in parse(replies(hand.ask(3, pairs))) if s.kind == HEADERS]
        told = dict(hand.fields(answer))
        assert told[":status"] == ("200" if call else "431")
        assert told.get("grpc-status") == ("8" if call else None)
        # The table is as its sender has it.
        (head,) = heads(hand.ask(5, [*GET, ("x-kept", "in the table")]))
        assert head.message.headers["x-kept"] == "in the table"

    def test_an_answer_that_is_too_long_fails_alone(self) -> None:
        hand = asked((REQUEST, REQUEST), Limits(max_head_bytes=1000))
        frames = hand.ask(1, [*OK, ("x-long", "v" * 1500), ("x-kept", "in the table")])
        assert resets(frames) == {1: ErrorCode.PROTOCOL_ERROR}
        assert crime(frames) is None
        (head,) = heads(hand.ask(3, [*OK, ("x-kept", "in the table")]))
        assert head.message.headers["x-kept"] == "in the table"

    def test_far_too_long_ends_the_connection(self) -> None:
        hand = serving(Limits(max_head_bytes=1000))
        assert crime(hand.ask(1, [*GET, ("x-long", "v" * 3000)])) is None
        assert crime(hand.ask(3, [*GET, ("x-long", "v" * 4000)])) is ErrorCode.ENHANCE_YOUR_CALM
