"""gRPC over HTTP/2: what its calls mean, and how they are answered."""

from __future__ import annotations

import attrs
import pytest

from tests.codecs.http2.driving import (
    OK,
    Hand,
    Pairs,
    Recording,
    client,
    data,
    heads,
    parse,
    recordings,
    replies,
    server,
    state_of,
)
from xproxy.codecs.grpc.text import decode_text
from xproxy.codecs.http2.plugin import PLUGIN
from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.wire import END_STREAM, HEADERS, RST_STREAM
from xproxy.model.errors import ConnectFailed, DeadlineExceeded, RouteNotFound
from xproxy.model.frames import Data, Frame, Head, Reset, Trailers
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead, ResponseHead, Rpc, Target
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.stream.exchange import error_head

CALL: Pairs = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/lab.Echo/Unary"),
    (":authority", "a.example"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
)
WEB_CALL: Pairs = (*CALL[:4], ("content-type", "application/grpc-web+proto"))
ANSWER: Pairs = (*OK, ("content-type", "application/grpc"))
REQUEST = RequestHead(
    service="a.example",
    method="POST",
    headers=Headers(CALL[4:]),
    extra=Target(path="/lab.Echo/Unary", version="2", rpc=Rpc("grpc", "lab.Echo", "Unary")),
)


def asked(pairs: Pairs = CALL, *, end: bool = True) -> tuple[Hand, Head]:
    """Open a server that owes the answer to a call."""
    hand = Hand(server())
    (head,) = [f for f in hand.say(hand.head(1, pairs, end=end)) if isinstance(f, Head)]
    return hand, head


def pairs_of(hand: Hand, payload: bytes) -> list[tuple[str, str]]:
    return [(str(name), str(value)) for name, value in hand.decoder.decode(payload)]


def fields(hand: Hand, payload: bytes) -> dict[str, str]:
    return dict(pairs_of(hand, payload))


def statuses(frames: list[Frame]) -> list[Status]:
    messages = [f.message for f in frames if isinstance(f, Head)]
    return [message.status for message in messages if isinstance(message, ResponseHead)]


class TestRequests:
    def test_service_method_and_deadline_are_read(self) -> None:
        _, head = asked((*CALL, ("grpc-timeout", "1500m")))
        assert isinstance(head.message, RequestHead)
        assert head.message.rpc == Rpc("grpc", "lab.Echo", "Unary")
        assert head.message.deadline == 1.5
        assert head.message.headers.get("grpc-timeout") == "1500m"
        assert (head.message.service, head.message.method) == ("a.example", "POST")

    @pytest.mark.parametrize(
        "pairs",
        [
            (*CALL[:4], ("content-type", "application/json"), ("grpc-timeout", "1S")),
            ((":method", "PUT"), *CALL[1:], ("grpc-timeout", "1S")),
        ],
    )
    def test_what_is_no_call_has_neither(self, pairs: Pairs) -> None:
        _, head = asked(pairs)
        assert isinstance(head.message, RequestHead)
        assert (head.message.rpc, head.message.deadline) == (None, None)

    def test_the_time_that_is_left_is_sent_and_nothing_else_changes(self) -> None:
        hand = Hand(client())
        head = attrs.evolve(
            REQUEST, deadline=2.0, headers=REQUEST.headers.add("grpc-timeout", "2S")
        )
        sent = []
        for stream_id, message in ((1, head), (3, head.due_in(0.5)), (5, head.due_in(0.25))):
            wire = parse(hand.codec.send(Head(stream_id, message, b"", True)))
            sent.append(pairs_of(hand, wire[-1].payload))
        assert [dict(one)["grpc-timeout"] for one in sent] == ["2S", "500000u", "250000u"]
        without = [[pair for pair in one if pair[0] != "grpc-timeout"] for one in sent]
        assert without[0] == without[1] == without[2]
        assert len([name for name, _ in sent[1] if name == "grpc-timeout"]) == 1

    def test_a_deadline_that_a_filter_set_is_sent(self) -> None:
        hand = Hand(client())
        wire = parse(hand.codec.send(Head(1, attrs.evolve(REQUEST, deadline=3.0), b"", True)))
        assert fields(hand, wire[-1].payload)["grpc-timeout"] == "3000000u"

    def test_a_call_that_moves_is_still_one(self) -> None:
        hand = Hand(client())
        for stream_id in (1, 3):
            hand.codec.send(Head(stream_id, REQUEST.due_in(9.0), b"", True))
        moved = PLUGIN.restore(hand.codec.snapshot(), Role.CLIENT, DEFAULT_LIMITS)
        hand.codec = moved  # type: ignore[assignment]  # a client's
        hand.say(hand.head(1, (*ANSWER, ("grpc-status", "0"))))
        got = hand.say(hand.head(3, ((":status", "404"),)))
        assert statuses(got) == [Status.UNIMPLEMENTED]


class TestAnswers:
    @pytest.mark.parametrize(
        ("pairs", "status"),
        [
            ((*ANSWER, ("grpc-status", "0")), Status.OK),
            ((*ANSWER, ("grpc-status", "8")), Status.RESOURCE_EXHAUSTED),
            ((*OK, ("content-type", "text/plain")), Status.UNKNOWN),
            (((":status", "404"),), Status.UNIMPLEMENTED),
            (((":status", "503"), ("retry-after", "1")), Status.UNAVAILABLE),
        ],
    )
    def test_a_head_tells_the_outcome(self, pairs: Pairs, status: Status) -> None:
        hand = Hand(client())
        hand.codec.send(Head(1, REQUEST, b"", True))
        assert statuses(hand.say(hand.head(1, pairs))) == [status]

    def test_trailers_tell_it(self) -> None:
        hand = Hand(client())
        hand.codec.send(Head(1, REQUEST, b"", True))
        got = hand.say(
            hand.head(1, ANSWER, end=False), hand.head(1, (("grpc-status", "14"), ("a", "b")))
        )
        assert statuses(got) == [Status.OK]
        assert [f.status for f in got if isinstance(f, Trailers)] == [Status.UNAVAILABLE]

    def test_what_is_no_call_is_read_as_before(self) -> None:
        hand = Hand(client())
        plain = attrs.evolve(REQUEST, extra=Target(path="/", version="2"))
        hand.codec.send(Head(1, plain, b"", True))
        got = hand.say(hand.head(1, ANSWER, end=False), hand.head(1, (("grpc-status", "14"),)))
        (trailers,) = [f for f in got if isinstance(f, Trailers)]
        assert trailers.status is None


class TestReplies:
    """Made here."""

    @pytest.mark.parametrize(
        ("error", "number"), [(RouteNotFound, "12"), (ConnectFailed, "14"), (DeadlineExceeded, "4")]
    )
    def test_they_are_trailers_only(self, error: type[RouteNotFound], number: str) -> None:
        hand, _ = asked()
        (seen,) = parse(hand.codec.send(Head(1, error_head(error("böse")), b"text", True)))
        assert (seen.kind, bool(seen.flags & END_STREAM)) == (HEADERS, True)
        told = fields(hand, seen.payload)
        assert told[":status"] == "200"
        assert told["content-type"] == "application/grpc"
        assert told["grpc-status"] == number
        assert decode_text(told["grpc-message"]) == (error.public or "böse")
        assert not state_of(hand.codec).streams

    def test_to_a_browser_in_its_dialect(self) -> None:
        hand, _ = asked(WEB_CALL)
        (seen,) = parse(hand.codec.send(Head(1, error_head(ConnectFailed("x")), b"", True)))
        assert fields(hand, seen.payload)["content-type"] == "application/grpc-web"

    def test_while_the_request_still_comes(self) -> None:
        hand, _ = asked(end=False)
        raw = hand.codec.send(Head(1, error_head(ConnectFailed("x")), b"", True))
        raw += hand.codec.send(Reset(1, Status.OK))
        assert [s.kind for s in parse(raw)] == [HEADERS, RST_STREAM]

    def test_others_are_as_before(self) -> None:
        hand, _ = asked((*CALL[:4], ("content-type", "text/plain")))
        seen = parse(hand.codec.send(Head(1, error_head(ConnectFailed("x")), b"", True)))
        assert fields(hand, seen[0].payload)[":status"] == "503"

    def test_the_code_for_the_log(self) -> None:
        head = error_head(ConnectFailed("x"))
        assert PLUGIN.code_of(head, REQUEST) == 200
        assert PLUGIN.code_of(head, attrs.evolve(REQUEST, extra=Target(path="/"))) == 503

    def test_a_head_that_is_too_large(self) -> None:
        hand = Hand(server())
        raw = hand.head(1, (*CALL, *[(f"x-{n}", "") for n in range(101)]))
        hand.say(raw)
        seen = parse(replies(hand.frames))
        told = fields(hand, next(s.payload for s in seen if s.kind == HEADERS))
        assert (told[":status"], told["grpc-status"]) == ("200", "8")
        assert "limit 100" in told["grpc-message"]


class TestBrokenOff:
    """An answer that has begun ends with an outcome, and not with an error code."""

    def begin(self, *, end: bool) -> Hand:
        hand, _ = asked(end=end)
        head = ResponseHead(status=Status.OK, native_status=200, headers=Headers(ANSWER[1:]))
        hand.decoder.decode(parse(hand.codec.send(Head(1, head)))[0].payload)
        hand.codec.send(Data(1, b"\0\0\0\0\x09half"))
        return hand

    def test_with_the_deadline(self) -> None:
        hand = self.begin(end=True)
        (seen,) = parse(hand.codec.send(Reset(1, Status.DEADLINE_EXCEEDED)))
        assert seen.flags & END_STREAM
        assert fields(hand, seen.payload) == {"grpc-status": "4"}
        assert not state_of(hand.codec).streams

    def test_while_the_request_still_comes(self) -> None:
        hand = self.begin(end=False)
        seen = parse(hand.codec.send(Reset(1, Status.UNAVAILABLE)))
        assert [s.kind for s in seen] == [HEADERS, RST_STREAM]
        assert seen[1].payload == int(ErrorCode.NO_ERROR).to_bytes(4, "big")
        assert not state_of(hand.codec).streams

    def test_a_state_that_moves_knows_it_too(self) -> None:
        hand = self.begin(end=True)
        moved = PLUGIN.restore(hand.codec.snapshot(), Role.SERVER, DEFAULT_LIMITS)
        assert parse(moved.send(Reset(1, Status.INTERNAL)))[0].kind == HEADERS

    def test_before_the_head_or_for_a_browser_it_is_a_reset(self) -> None:
        hand, _ = asked()
        assert parse(hand.codec.send(Reset(1, Status.INTERNAL)))[0].kind == RST_STREAM
        hand, _ = asked(WEB_CALL)
        hand.codec.send(Head(1, ResponseHead(status=Status.OK, native_status=200)))
        assert parse(hand.codec.send(Reset(1, Status.INTERNAL)))[0].kind == RST_STREAM

    def test_a_body_of_a_declared_length_cannot_end_early(self) -> None:
        hand, _ = asked()
        headers = Headers((("content-length", "10"),))
        head = ResponseHead(status=Status.OK, native_status=200, headers=headers)
        hand.codec.send(Head(1, head))
        assert parse(hand.codec.send(Reset(1, Status.INTERNAL)))[0].kind == RST_STREAM


def test_data_of_a_call_passes_as_it_comes() -> None:
    hand, _ = asked(end=False)
    got = hand.say(data(1, b"\0\0\0\0\x05he"), data(1, b"llo", end=True))
    assert b"".join(f.data for f in got if isinstance(f, Data)) == b"\0\0\0\0\x05hello"


RAW = ("grpc-gzip-0", "grpc-unary-0")  # raw bytes in a field, by a private agreement of the ends
CALLS = [r for r in recordings() if r.name.startswith("grpc-") and r.name not in RAW]


@pytest.mark.parametrize("recording", CALLS, ids=[r.name for r in CALLS])
def test_recorded_calls_mean_what_was_described(recording: Recording) -> None:
    """Of grpcio 1.85.1 with itself; requests are read by a server, answers by a client that asked the same."""
    told = [f for f in recording.frames if f["kind"] == "HEADERS"]
    codec = client()
    codec.receive(b"")
    calls = []
    for head in heads(server().receive(recording.requests)):
        assert isinstance(head.message, RequestHead)
        assert head.message.rpc is not None
        assert (head.message.deadline is not None) is ("grpc-timeout" in head.message.headers)
        calls.append((head.message.rpc.service, head.message.rpc.method))
        codec.send(Head(head.stream_id, head.message, b"", True))
    assert calls == [(f["service"], f["method"]) for f in told if f["dir"] == "c2s"]

    outcomes = []
    for frame in codec.receive(recording.responses):
        if isinstance(frame, Trailers):
            outcomes.append(frame.status)
        elif isinstance(frame, Head) and frame.end and isinstance(frame.message, ResponseHead):
            outcomes.append(frame.message.status)
    said = [dict(f["headers"]) for f in told if f["dir"] == "s2c"]
    numbers = [Status(int(f["grpc-status"])) for f in said if "grpc-status" in f]
    assert outcomes == numbers
