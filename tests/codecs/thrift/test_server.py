"""Towards a client: whose answer leaves when."""

from __future__ import annotations

import pytest

from tests.codecs.thrift.recordings import heads, read, violation
from xproxy.codecs.api import NO_HINT, YES, SupportsBacklog, supports
from xproxy.codecs.thrift.client import ClientCodec
from xproxy.codecs.thrift.dialect import (
    DIALECTS,
    FRAMED_STRICT,
    Dialect,
    Protocol,
    Transport,
    dialect_of,
)
from xproxy.codecs.thrift.header import ZLIB, pack, wrap
from xproxy.codecs.thrift.message import ThriftExtra
from xproxy.codecs.thrift.plugin import PLUGIN, ThriftPlugin
from xproxy.codecs.thrift.server import DECLINED, MOST_UNPACKED, ServerCodec
from xproxy.model.frames import Head, Reply, Reset
from xproxy.model.limits import DEFAULT_LIMITS, KIB, Limits
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
    *frames, refused = codec.receive(call(0) * 5)
    assert isinstance(refused, Reply)
    assert refused.data == b"", "its answer waits"
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
    (refused,) = codec.receive(call(0))
    assert isinstance(refused, Reply)
    assert refused.data == b"", "told, and not answered yet"
    assert codec.refused == 1
    assert len(codec.send(Head(first.stream_id, OK, b"\0", end=True))) > 2000
    assert len(heads(codec.receive(call(0)))) == 1


@pytest.mark.parametrize("name", DECLINED)
def test_a_wish_for_another_protocol_is_declined(name: str) -> None:
    codec = ServerCodec(DEFAULT_LIMITS)
    (reply_frame,) = codec.receive(call(0, name))
    assert isinstance(reply_frame, Reply)
    assert reply_frame.data[4:8] == b"\x80\1\0\3"
    assert reply_frame.data[-5:] == b"\0\0\0\1\0"
    assert heads(codec.receive(call(0)))[0].data == b"\0"


def test_an_fbthrift_client_stays_on_header() -> None:
    """``upgradeToRocket`` as fbthrift sends it: a THeader of flags 0, in compact, without arguments."""
    codec = ServerCodec(DEFAULT_LIMITS)
    payload = b"\x82\x21\x00\x0fupgradeToRocket\x00"
    body = b"\x0f\xff\0\0\0\0\0\0\0\1\2\0\0\0" + payload
    (declined,) = codec.receive(len(body).to_bytes(4) + body)
    assert isinstance(declined, Reply)
    assert declined.data[18:].startswith(b"\x82\x61\x00\x0fupgradeToRocket"), "an exception"
    assert declined.data.endswith(b"\x15\x02\x00"), "of type UNKNOWN_METHOD"
    payload = b"\x82\x21\x01\x04echo\x00"
    body = b"\x0f\xff\0\0\0\0\0\1\0\1\2\0\0\0" + payload
    (served,) = codec.receive(len(body).to_bytes(4) + body)
    assert isinstance(served, Head)
    assert served.message.method == "echo"  # type: ignore[union-attr]  # a call


ROCKET = bytes.fromhex(
    "000031 00000000 0440 0001 0000 00007530 000dbba0 0f"
    + b"application/rpc".hex()
    + "00000000 0000"
)
"""The frame SETUP of an RSocket client (RSocket protocol 1.0, over TCP), as Rocket's begins."""


@pytest.mark.parametrize("step", [1, 5, 100])
def test_rocket_is_refused_and_not_waited_for(step: int) -> None:
    codec = ServerCodec(DEFAULT_LIMITS)
    frames = [
        f for at in range(0, len(ROCKET), step) for f in codec.receive(ROCKET[at : at + step])
    ]
    assert [type(frame).__name__ for frame in frames] == ["Violation"]


@pytest.mark.parametrize(
    "name", ["user-service:get", "com.x.UserService$Iface:get", "svc/v1:get", "größe:öffne"]
)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_any_text_is_a_service(name: str, dialect: Dialect) -> None:
    if (dialect.transport, dialect.protocol) == (Transport.HEADER, Protocol.JSON):
        return  # there is no such thing
    service, _, method = name.partition(":")
    head = RequestHead(service=service, method=method, extra=ThriftExtra(dialect, name))
    wire = ClientCodec(DEFAULT_LIMITS).send(Head(1, head, dialect.encoding.empty, end=True))
    assert PLUGIN.detect(wire, NO_HINT) is YES
    server = ServerCodec(DEFAULT_LIMITS)
    (asked,) = heads(server.receive(wire))
    assert isinstance(asked.message, RequestHead)
    assert (asked.message.service, asked.message.method) == (service, method)
    # An answer by that name, and an exception made here.
    assert server.send(Head(asked.stream_id, ResponseHead(status=Status.NOT_FOUND), end=True))


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


def packed(seqid: int, size: int) -> bytes:
    """Return a call in a THeader whose payload is packed, and unpacks to ``size`` bytes and a few."""
    struct = b"\x0b\0\1" + size.to_bytes(4) + bytes(size) + b"\0"
    payload = b"\x80\1\0\1" + (1).to_bytes(4) + b"m" + seqid.to_bytes(4) + struct
    return wrap(pack(payload, (ZLIB,)), 0, seqid, b"\0\1\1\0")


def test_packed_calls_are_unpacked_a_mib_at_a_time() -> None:
    codec = ServerCodec(DEFAULT_LIMITS)
    assert supports(codec, SupportsBacklog)
    wire = b"".join(packed(number, 700 * KIB) for number in range(1, 8))
    assert len(wire) < 64 * KIB
    found = [f.stream_id for f in heads(codec.receive(wire))]
    assert found == [1]
    while codec.backlog:
        more = heads(codec.receive(b""))
        assert sum(len(f.data) for f in more) <= 2 * MOST_UNPACKED
        found += [f.stream_id for f in more]
    assert found == list(range(1, 8)), "none is lost"
    assert not codec.receive(b"")


def test_one_large_call_is_unpacked_a_mib_at_a_time() -> None:
    """Nobody waits until all of it is there; what is made meanwhile is told as held, and it can move."""
    codec = ServerCodec(DEFAULT_LIMITS)
    size = 9 * MOST_UNPACKED
    wire = packed(7, size) + call(8)
    frames = list(codec.receive(wire))
    rounds = 0
    moved = None
    while not frames:
        rounds += 1
        assert codec.backlog_bytes >= rounds * MOST_UNPACKED
        if rounds == 4:
            moved = ThriftPlugin().restore(codec.snapshot(), Role.SERVER, DEFAULT_LIMITS)
        frames = list(codec.receive(b""))
    while codec.backlog:
        frames += codec.receive(b"")
    first, second = heads(frames)
    assert (first.stream_id, len(first.data), second.stream_id) == (7, size + 8, 8)
    assert rounds == 9
    assert codec.backlog_bytes == 0
    assert isinstance(moved, ServerCodec)
    again = list(moved.receive(b""))
    while moved.backlog:
        again += moved.receive(b"")
    assert heads(again) == [first, second]


def test_input_that_ends_amid_a_packed_call_is_a_violation() -> None:
    codec = ServerCodec(DEFAULT_LIMITS)
    assert not codec.receive(packed(7, 9 * MOST_UNPACKED))
    assert "into a message" in violation(list(codec.receive(None)))
    assert not codec.backlog
    assert codec.backlog_bytes == 0


def test_a_large_call_that_does_not_unpack_is_refused_by_its_id() -> None:
    codec = ServerCodec(DEFAULT_LIMITS)
    wire = bytearray(packed(7, 3 * MOST_UNPACKED))
    wire[-1] ^= 1  # the checksum
    frames = list(codec.receive(bytes(wire)))
    while codec.backlog and not frames:
        frames = list(codec.receive(b""))
    assert "zlib" in violation(frames)


def test_calls_that_are_held_back_come_before_what_follows_them() -> None:
    codec = ServerCodec(DEFAULT_LIMITS)
    wire = b"".join(packed(number, 700 * KIB) for number in range(1, 5))
    found = [f.stream_id for f in heads(codec.receive(wire))]
    found += [f.stream_id for f in heads(codec.receive(call(9)))]
    while codec.backlog:
        found += [f.stream_id for f in heads(codec.receive(b""))]
    assert found == [1, 2, 3, 4, 9]
