"""The message engine, seen through Bolt's wire: framing, what is owed, refusals, and moves at any byte."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codecs.declared import PLAIN
from tests.codecs.declared import request as declared_request
from xproxy.codecs.bolt.wire import V1_HESSIAN, BoltWire
from xproxy.codecs.dubbo.wire import DubboWire
from xproxy.codecs.message_wire import NO_HEAD, Kind, Message
from xproxy.codecs.messages import (
    ORIGIN_MAX_BYTES,
    SKIPPED_MESSAGES,
    FullMessageCodec,
    GoAwayMessageCodec,
    HeartbeatMessageCodec,
    MessageCodec,
)
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Data, Frame, GoAway, Head, Reply, Reset, Trailers, Violation
from xproxy.model.headers import NO_HEADERS, Headers
from xproxy.model.limits import DEFAULT_LIMITS, Limits
from xproxy.model.message import Local, Reason, RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role

WIRE = BoltWire()
REQUEST = RequestHead(service="s", method="m")
OK = ResponseHead(status=Status.OK)


def opened(role: Role = Role.SERVER, limits: Limits = DEFAULT_LIMITS) -> MessageCodec:
    return MessageCodec(WIRE, role, limits)


def request(stream_id: int, data: bytes = b"body") -> bytes:
    return WIRE.request(stream_id, REQUEST, data)


def ids(frames: object) -> list[int]:
    assert isinstance(frames, list | tuple)
    return [frame.stream_id for frame in frames if isinstance(frame, Head)]


def test_many_messages_in_one_read_and_one_message_in_many() -> None:
    codec = opened()
    data = b"".join(request(i) for i in range(50))
    assert ids(codec.receive(data[:-1])) == list(range(49))
    assert ids(codec.receive(data[-1:])) == [49]
    assert [i for b in request(60) for i in ids(codec.receive(bytes((b,))))] == [60]


def test_a_large_message_in_small_pieces_costs_linear_memory_and_no_frame_before_its_end() -> None:
    codec = opened()
    raw = request(1, bytes(1 << 20))
    frames = [f for at in range(0, len(raw), 1000) for f in codec.receive(raw[at : at + 1000])]
    (head,) = frames
    assert isinstance(head, Head)
    assert (len(head.data), head.origin) == (1 << 20, None)
    assert len(raw) > ORIGIN_MAX_BYTES


def test_good_messages_come_before_the_violation_and_nothing_after_it() -> None:
    codec = opened()
    first, second = codec.receive(request(1) + b"\xff" + request(2))
    assert isinstance(first, Head)
    assert second == Violation("bolt: version 255")
    assert codec.receive(request(3)) == ()
    assert codec.receive(None) == ()
    assert codec.send(Head(1, OK, b"", end=True)) != b""  # what was owed is still answered


def test_an_end_inside_a_message_is_a_violation() -> None:
    codec = opened()
    codec.receive(request(1) + request(2)[:5])
    assert codec.receive(None) == (Violation("bolt: input ended 5 bytes into a message"),)
    assert opened().receive(None) == ()


def test_an_id_in_flight_cannot_be_used_again() -> None:
    codec = opened()
    codec.receive(request(7))
    codec.send(Head(7, OK, b"", end=True))
    assert ids(codec.receive(request(7))) == [7]
    assert codec.receive(request(7))[-1] == Violation("bolt: request id 7 is in flight already")


def test_each_side_hears_only_what_it_may_without_reverse() -> None:
    assert isinstance(opened(Role.CLIENT).receive(request(1))[0], Violation)
    oneway = WIRE.request(1, attrs.evolve(REQUEST, oneway=True), b"")
    assert isinstance(opened(Role.CLIENT).receive(oneway)[0], Violation)
    answer = WIRE.response(1, OK, b"", 1 << 24)
    assert isinstance(opened(Role.SERVER).receive(answer)[0], Violation)


def test_nothing_is_sent_twice() -> None:
    codec = opened()
    codec.receive(request(1))
    assert codec.send(Head(1, OK, b"", end=True)) != b""
    assert codec.send(Head(1, OK, b"", end=True)) == b""


def test_an_answer_that_cannot_be_written_is_still_owed() -> None:
    codec = opened()
    codec.receive(request(1))
    bad = ResponseHead(status=Status.OK, headers=NO_HEADERS.add("k", "v" * 40_000))
    with pytest.raises(LocalProtocolError):
        codec.send(Head(1, bad, b"", end=True))
    assert codec.send(Head(1, ResponseHead(status=Status.INTERNAL), b"", end=True)) != b""


def test_a_reset_of_what_is_owed_is_answered() -> None:
    codec, client = opened(), opened(Role.CLIENT)
    codec.receive(request(1) + request(2))
    (answer,) = client.receive(codec.send(Reset(1, Status.UNAVAILABLE)))
    assert isinstance(answer, Head)
    assert isinstance(answer.message, ResponseHead)
    assert answer.message.native_status == 6
    assert codec.send(Reset(1, Status.UNAVAILABLE)) == b""
    assert client.send(Reset(5, Status.CANCELLED)) == b""


@pytest.mark.parametrize(
    ("role", "frame"),
    [
        (Role.SERVER, Head(1, REQUEST, b"", end=True)),
        (Role.CLIENT, Head(1, OK, b"", end=True)),
        (Role.CLIENT, Head(1, REQUEST)),
        (Role.SERVER, Head(1, OK, b"", end=True, interim=True)),
        (Role.SERVER, Data(1, b"")),
        (Role.SERVER, Trailers(1, NO_HEADERS)),
        (Role.SERVER, GoAway()),
    ],
)
def test_nonsense_is_our_own_mistake(role: Role, frame: Frame) -> None:
    with pytest.raises(LocalProtocolError):
        opened(role).send(frame)


def test_an_unmodified_message_is_copied_and_a_modified_one_is_not() -> None:
    (frame,) = opened().receive(request(1))
    assert isinstance(frame, Head)
    assert frame.origin is not None
    client = opened(Role.CLIENT)
    assert client.send(attrs.evolve(frame, stream_id=9)) == request(9)
    other = attrs.evolve(frame, data=b"other")
    assert client.send(other) == request(1, b"other")
    foreign = attrs.evolve(frame, origin=attrs.evolve(frame.origin, codec="xs1", raw=b"foreign"))
    assert client.send(foreign) == request(1)


@pytest.mark.parametrize("offset", range(0, 120, 7))
def test_a_connection_moves_at_any_byte(offset: int) -> None:
    data = request(1) + request(-2) + WIRE.heartbeat(0) + request(3)
    codec = opened()
    before = list(codec.receive(data[:offset]))
    moved = opened()
    moved.load(codec.snapshot())
    assert list(moved.receive(b"")) == []
    after = list(moved.receive(data[offset:]))
    assert before + after == list(opened().receive(data))
    for stream_id in (1, -2, 3):
        assert moved.send(Head(stream_id, OK, b"", end=True)) != b""


def test_what_a_state_owes_and_skips_is_within_the_limits() -> None:
    codec = opened(limits=SMALL)
    codec.receive(request(1) + request(2) + request(3, b"x" * SMALL.max_message_bytes)[:60])
    state = codec.snapshot()
    opened(limits=SMALL).load(state)
    with pytest.raises(ValueError, match="owes 2 answers, limit 1 "):
        opened(limits=attrs.evolve(SMALL, max_streams=1)).load(state)
    with pytest.raises(ValueError, match=r"skips .* bytes, limit 400 "):
        opened(limits=attrs.evolve(SMALL, max_message_bytes=100)).load(state)


def test_a_codec_has_only_what_its_protocol_has() -> None:
    assert not hasattr(MessageCodec, "heartbeat")
    assert not hasattr(HeartbeatMessageCodec, "goaway")
    assert not hasattr(GoAwayMessageCodec, "heartbeat")
    full = FullMessageCodec(WIRE, Role.SERVER, DEFAULT_LIMITS)
    assert full.heartbeat() == WIRE.heartbeat(0)
    assert full.goaway() == WIRE.goaway(0)


def test_a_refusal_for_want_of_room_says_so_where_there_are_headers() -> None:
    server = PLAIN.open(Role.SERVER, Limits(max_streams=1))
    _, reply = server.receive(b"".join(declared_request(PLAIN, i, REQUEST) for i in (1, 2)))
    assert isinstance(reply, Reply)
    (answer,) = PLAIN.open(Role.CLIENT, DEFAULT_LIMITS).receive(reply.data)
    assert isinstance(answer, Head)
    assert isinstance(answer.message, ResponseHead)
    assert answer.message.headers.get("x-envoy-overloaded") == "true"


class Picky(BoltWire):
    """Refuses requests without a body, and passes over those that nobody waits for."""

    __slots__ = ()

    def decode(self, buffer: bytes, at: int, size: int, limits: Limits) -> Message | int:
        message = super().decode(buffer, at, size, limits)
        if isinstance(message, int) or message[3]:
            return message
        kind, stream_id, _, _, length, dialect = message
        if kind is Kind.ONEWAY:
            return Kind.IGNORED, stream_id, NO_HEAD, b"", length, dialect
        refusal = ResponseHead(
            status=Status.INVALID_ARGUMENT, extra=Local(detail="empty", reason=Reason.NONE)
        )
        return Kind.REFUSED, stream_id, refusal, b"", length, dialect


def test_what_cannot_be_read_is_answered_and_the_connection_goes_on() -> None:
    codec = MessageCodec(Picky(), Role.SERVER, DEFAULT_LIMITS)
    oneway = attrs.evolve(REQUEST, oneway=True)
    frames = codec.receive(request(1, b"") + WIRE.request(2, oneway, b"") + request(3))
    reply, head = frames
    assert isinstance(reply, Reply)
    assert ids(frames) == [3]
    assert codec.refused == 1
    (answer,) = opened(Role.CLIENT).receive(reply.data)
    assert isinstance(answer, Head)
    assert isinstance(answer.message, ResponseHead)
    assert (answer.stream_id, answer.message.status) == (1, Status.INVALID_ARGUMENT)
    assert isinstance(head, Head)


def test_a_refused_request_must_be_one_that_may_come() -> None:
    wrong_way = MessageCodec(Picky(), Role.CLIENT, DEFAULT_LIMITS)
    assert isinstance(wrong_way.receive(request(1, b""))[-1], Violation)
    twice = MessageCodec(Picky(), Role.SERVER, DEFAULT_LIMITS)
    assert isinstance(twice.receive(request(1) + request(1, b""))[-1], Violation)


# ---- what cannot be taken fails alone

SMALL = Limits(max_message_bytes=600, max_head_bytes=200)


class Wire(NamedTuple):
    """A protocol, and how its messages are written."""

    codec: Callable[[Role, Limits], MessageCodec]
    request: Callable[[int, bytes], bytes]
    oneway: Callable[[int, bytes], bytes]
    answer: Callable[[int, bytes], bytes]


ONE_WAY = attrs.evolve(REQUEST, oneway=True)
DUBBO = DubboWire()
WIRES = {
    "bolt": Wire(
        lambda role, limits: MessageCodec(WIRE, role, limits),
        lambda n, data: WIRE.request(n, REQUEST, data),
        lambda n, data: WIRE.request(n, ONE_WAY, data),
        lambda n, data: WIRE.response(n, OK, data, V1_HESSIAN),
    ),
    "dubbo": Wire(
        lambda role, limits: MessageCodec(DUBBO, role, limits),
        lambda n, data: DUBBO.request(n, REQUEST, data),
        lambda n, data: DUBBO.request(n, ONE_WAY, data),
        lambda n, data: DUBBO.response(n, OK, data, 2),
    ),
}


def seen(codec: MessageCodec, data: bytes, cut: int) -> list[tuple[str, int]]:
    """Return what comes of a stream: requests, answers, refusals, and how it ends."""
    found: list[tuple[str, int]] = []
    for at in range(0, len(data), cut):
        for frame in codec.receive(data[at : at + cut]):
            if isinstance(frame, Head):
                found.append(("head", frame.stream_id))
            elif isinstance(frame, Reset):
                assert "limit" in frame.detail
                found.append(("reset", frame.stream_id))
            elif isinstance(frame, Reply):
                found.append(("reply", len(frame.data)))
            else:
                found.append((type(frame).__name__, 0))
    return found


@pytest.mark.parametrize("name", WIRES)
@given(
    sizes=st.lists(st.sampled_from([0, 10, 1000, 1500]), max_size=12),
    cut=st.integers(1, 2000),
    way=st.sampled_from(["request", "oneway", "answer"]),
)
def test_a_message_that_is_too_large_fails_alone(
    name: str, sizes: list[int], cut: int, way: str
) -> None:
    wire = WIRES[name]
    write = {"request": wire.request, "oneway": wire.oneway, "answer": wire.answer}[way]
    data = b"".join(write(number, bytes(size)) for number, size in enumerate(sizes, 1))
    codec = wire.codec(Role.CLIENT if way == "answer" else Role.SERVER, SMALL)
    found = seen(codec, data, cut)
    kinds = {"request": "reply", "answer": "reset", "oneway": ""}
    wanted = [
        ("head" if size < 100 else kinds[way], number)
        for number, size in enumerate(sizes, 1)
        if size < 100 or way != "oneway"
    ]
    assert [kind for kind, _ in found] == [kind for kind, _ in wanted]
    assert [n for kind, n in found if kind != "reply"] == [n for k, n in wanted if k != "reply"]
    assert not codec.unfinished
    assert codec.receive(None) == ()


@pytest.mark.parametrize("name", WIRES)
def test_what_is_skipped_is_bounded(name: str) -> None:
    wire = WIRES[name]
    long = wire.request(1, bytes(SKIPPED_MESSAGES * SMALL.max_message_bytes))
    frames = wire.codec(Role.SERVER, SMALL).receive(long[:100])
    assert isinstance(frames[-1], Violation)
    assert frames[-1].farewell  # it is told, as before


@pytest.mark.parametrize("name", WIRES)
def test_a_refusal_comes_as_soon_as_the_length_is_known(name: str) -> None:
    wire = WIRES[name]
    codec = wire.codec(Role.SERVER, SMALL)
    long = wire.request(1, bytes(1500))
    (refusal,) = codec.receive(long[:50])
    assert isinstance(refusal, Reply)
    assert codec.unfinished
    assert codec.refused == 1
    moved = wire.codec(Role.SERVER, SMALL)
    moved.load(codec.snapshot())
    assert [
        f.stream_id for f in moved.receive(long[50:] + wire.request(2, b"")) if isinstance(f, Head)
    ] == [2]
    assert isinstance(codec.receive(None)[0], Violation)


@pytest.mark.parametrize("name", WIRES)
def test_a_refused_request_whose_id_is_in_flight_ends_the_connection(name: str) -> None:
    wire = WIRES[name]
    codec = wire.codec(Role.SERVER, SMALL)
    codec.receive(wire.request(1, b""))
    violation = codec.receive(wire.request(1, bytes(1500)))[-1]
    assert isinstance(violation, Violation)
    assert not violation.farewell


def test_a_head_that_is_too_large_fails_alone() -> None:
    head = attrs.evolve(REQUEST, headers=Headers((("long", "x" * 300),)))
    codec = opened(limits=attrs.evolve(SMALL, max_message_bytes=1000))
    frames = codec.receive(WIRE.request(1, head, b"") + request(2))
    assert [type(frame) for frame in frames] == [Reply, Head]
