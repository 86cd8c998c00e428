"""Towards a client: whose answer leaves when."""

from __future__ import annotations

import pytest

from tests.codecs.thrift.recordings import heads, read, violation
from xproxy.codecs.thrift.client import ClientCodec
from xproxy.codecs.thrift.dialect import (
    DIALECTS,
    FRAMED_STRICT,
    Protocol,
    Transport,
    dialect_of,
)
from xproxy.codecs.thrift.message import ThriftExtra
from xproxy.codecs.thrift.plugin import PLUGIN, ThriftPlugin
from xproxy.codecs.thrift.server import NEGOTIATION, ServerCodec
from xproxy.model.frames import Head, Reply, Reset
from xproxy.model.limits import DEFAULT_LIMITS, Limits
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role

OK = ResponseHead(status=Status.OK, native_status=-1, extra=ThriftExtra(name="m"))


def call(seqid: int, method: str = "m", *, oneway: bool = False) -> bytes:
    head = RequestHead(service="", method=method, oneway=oneway)
    return ClientCodec(DEFAULT_LIMITS).send(Head(seqid, head, b"\0", end=True))


def reply(number: int) -> bytes:
    return b"\x08\0\0" + number.to_bytes(4) + b"\0"


def numbers(data: bytes) -> list[int]:
    """Return what the answers in ``data`` hold, in order."""
    found = []
    while data:
        end = 4 + int.from_bytes(data[:4])
        found.append(int.from_bytes(data[end - 5 : end - 1]))
        data = data[end:]
    return found


def answer(codec: ServerCodec, frame: Head, number: int) -> list[int]:
    return numbers(codec.send(Head(frame.stream_id, OK, reply(number), end=True)))


def test_distinct_ids_are_answered_as_it_comes() -> None:
    codec = ServerCodec(DEFAULT_LIMITS)
    first, second, third = heads(codec.receive(call(5) + call(6) + call(7)))
    assert [f.stream_id for f in (first, second, third)] == [5, 6, 7]
    assert answer(codec, third, 3) == [3]
    assert answer(codec, first, 1) == [1]
    assert answer(codec, second, 2) == [2]


def test_ids_that_fall_are_distinct_too() -> None:
    codec = ServerCodec(DEFAULT_LIMITS)
    first, second = heads(codec.receive(call(9) + call(3)))
    assert first.stream_id == 9
    assert second.stream_id & 0xFFFFFFFF == 3
    written = codec.send(Head(second.stream_id, OK, reply(2), end=True))
    assert numbers(written) == [2]
    assert written[13:17] == (3).to_bytes(4)


def test_equal_ids_are_answered_in_the_order_of_the_calls() -> None:
    codec = ServerCodec(DEFAULT_LIMITS)
    frames = heads(read(codec, [call(0) * 3, call(0)]))
    assert len({f.stream_id for f in frames}) == 4
    assert answer(codec, frames[2], 2) == []
    assert answer(codec, frames[1], 1) == []
    assert answer(codec, frames[1], 9) == []  # a second answer
    assert answer(codec, frames[0], 0) == [0, 1, 2]
    assert answer(codec, frames[3], 3) == [3]
    assert answer(codec, frames[3], 3) == []


def test_a_client_once_seen_to_count_on_the_order_gets_it() -> None:
    codec = ServerCodec(DEFAULT_LIMITS)
    first, second = heads(codec.receive(call(0) * 2))
    answer(codec, first, 0)
    answer(codec, second, 1)
    first, second = heads(codec.receive(call(4) + call(5)))
    assert answer(codec, second, 5) == []
    assert answer(codec, first, 4) == [4, 5]


def test_answers_that_left_before_are_none_of_it() -> None:
    codec = ServerCodec(DEFAULT_LIMITS)
    first, second = heads(codec.receive(call(1) + call(2)))
    assert answer(codec, second, 2) == [2]
    (third,) = heads(codec.receive(call(1)))
    assert answer(codec, third, 3) == []
    assert answer(codec, first, 1) == [1, 3]


def test_oneway_calls_are_owed_nothing() -> None:
    codec = ServerCodec(DEFAULT_LIMITS)
    frames = heads(codec.receive(call(0, oneway=True) + call(0) + call(0, oneway=True)))
    assert len({f.stream_id for f in frames}) == 3
    assert answer(codec, frames[2], 1) == []
    assert answer(codec, frames[0], 1) == []
    assert answer(codec, frames[1], 2) == [2]


def test_a_reset_is_answered_so_that_nobody_waits() -> None:
    codec = ServerCodec(DEFAULT_LIMITS)
    first, second = heads(codec.receive(call(0) * 2))
    assert answer(codec, second, 2) == []
    left = codec.send(Reset(first.stream_id, Status.OK))
    assert left.count(b"\x80\1\0\3") == 1
    assert left.count(b"\x80\1\0\2") == 1
    assert codec.send(Reset(first.stream_id, Status.INTERNAL)) == b""


def test_too_many_calls_are_refused() -> None:
    codec = ServerCodec(Limits(max_streams=2))
    first, second, refusal = codec.receive(call(1) + call(2) + call(3))
    assert isinstance(first, Head)
    assert isinstance(second, Head)
    assert isinstance(refusal, Reply)
    assert b"too many calls" in refusal.data
    assert codec.refused == 1
    assert answer(codec, first, 1) == [1]
    assert len(heads(codec.receive(call(4)))) == 1


def test_a_refusal_for_want_of_room_says_so_where_there_are_headers() -> None:
    dialect = dialect_of(Transport.HEADER, Protocol.STRICT)
    client = ThriftPlugin(transport=dialect.transport).open(Role.CLIENT, DEFAULT_LIMITS)
    asked = [client.send(Head(i, RequestHead(service="", method="m"), b"\0", True)) for i in (1, 2)]
    refusal = ServerCodec(Limits(max_streams=1)).receive(b"".join(asked))[1]
    assert isinstance(refusal, Reply)
    (told,) = client.receive(refusal.data)
    assert isinstance(told, Head)
    assert told.message.headers.get("x-envoy-overloaded") == "true"


def test_in_order_refusals_wait_and_are_bounded() -> None:
    codec = ServerCodec(Limits(max_streams=4))
    frames = codec.receive(call(0) * 5)
    assert len(heads(frames)) == 4
    written = b"".join(
        codec.send(Head(f.stream_id, OK, reply(i), end=True)) for i, f in enumerate(heads(frames))
    )
    assert written.endswith(b"\x06\0")  # the refusal is last
    assert "more than 5 calls wait" in violation(codec.receive(call(0) * 7))


def test_what_waits_is_bounded() -> None:
    codec = ServerCodec(Limits(max_message_bytes=1000))
    first, second = heads(codec.receive(call(0) * 2))
    large = ResponseHead(status=Status.OK, native_status=-1, extra=ThriftExtra(name="m"))
    assert codec.send(Head(second.stream_id, large, bytes(2000), end=True)) == b""
    assert codec.receive(call(0)) == []
    assert codec.refused == 1
    assert len(codec.send(Head(first.stream_id, OK, b"\0", end=True))) > 2000
    assert len(heads(codec.receive(call(0)))) == 1


def test_finagles_negotiation_is_declined() -> None:
    codec = ServerCodec(DEFAULT_LIMITS)
    (reply_frame,) = codec.receive(call(0, NEGOTIATION))
    assert isinstance(reply_frame, Reply)
    assert reply_frame.data[4:8] == b"\x80\1\0\3"
    assert reply_frame.data[-5:] == b"\0\0\0\1\0"
    assert heads(codec.receive(call(0)))[0].data == b"\0"


@pytest.mark.parametrize("ordered", [False, True])
def test_it_moves_with_all_that_waits(ordered: bool) -> None:
    codec = ServerCodec(DEFAULT_LIMITS)
    frames = heads(codec.receive(call(0) * 3 if ordered else call(7) + call(4) + call(5)))
    assert answer(codec, frames[1], 1) == ([] if ordered else [1])
    moved = PLUGIN.restore(codec.snapshot(), Role.SERVER, DEFAULT_LIMITS)
    assert isinstance(moved, ServerCodec)
    assert answer(moved, frames[0], 0) == ([0, 1] if ordered else [0])
    (more,) = heads(moved.receive(call(5)))
    assert answer(moved, more, 3) == []  # its id is that of the one before
    assert answer(moved, frames[2], 2) == [2, 3]


def test_the_dialect_of_an_answer_is_that_of_its_call() -> None:
    for dialect in DIALECTS[:3]:
        codec = ServerCodec(DEFAULT_LIMITS)
        head = RequestHead(service="", method="m", extra=ThriftExtra(dialect))
        client = ClientCodec(DEFAULT_LIMITS)
        (frame,) = heads(codec.receive(client.send(Head(1, head, b"\0", end=True))))
        (back,) = heads(client.receive(codec.send(Head(frame.stream_id, OK, b"\0", end=True))))
        assert back.message.extra.dialect is dialect
    assert FRAMED_STRICT is DIALECTS[0]
