"""Towards a server: no answer but to a call of ours, and in its dialect."""

from __future__ import annotations

import pytest

from tests.codecs.thrift.recordings import only, violation
from xproxy.codecs.thrift.client import ClientCodec
from xproxy.codecs.thrift.dialect import (
    FRAMED_STRICT,
    Protocol,
    Transport,
    dialect_of,
    upstreams,
)
from xproxy.codecs.thrift.message import ThriftExtra
from xproxy.codecs.thrift.plugin import PLUGIN
from xproxy.codecs.thrift.snapshot import ClientState
from xproxy.codecs.thrift.state import MAX_ONEWAYS
from xproxy.codecs.thrift.wire import response
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Head, Reset
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role

CALL = RequestHead(service="", method="m")
OLD = dialect_of(Transport.FRAMED, Protocol.OLD)
COMPACT = dialect_of(Transport.FRAMED, Protocol.COMPACT)


def answer(seqid: int, dialect: object = FRAMED_STRICT) -> bytes:
    extra = ThriftExtra(dialect, "m")  # type: ignore[arg-type]  # only dialects are given
    return response(extra, seqid, seqid, ResponseHead(status=Status.OK), b"", 1 << 20)


@pytest.fixture
def client() -> ClientCodec:
    return ClientCodec(DEFAULT_LIMITS)


def test_calls_are_framed_and_strict_where_nobody_said_otherwise(client: ClientCodec) -> None:
    assert client.send(Head(3, CALL, b"\0", end=True)).hex() == (
        "0000000e80010001000000016d0000000300"
    )


def test_answers_are_matched_by_their_id(client: ClientCodec) -> None:
    for stream_id in (1, 2, 3):
        client.send(Head(stream_id, CALL, b"\0", end=True))
    assert only(client.receive(answer(3))).stream_id == 3
    assert only(client.receive(answer(1))).stream_id == 1
    assert "the call 3, which waits for none" in violation(client.receive(answer(3)))


def oneway(client: ClientCodec) -> int:
    stream_id = client.next_stream_id()
    client.send(Head(stream_id, RequestHead(service="", method="m", oneway=True), b"\0", end=True))
    return stream_id


def test_an_answer_to_a_oneway_call_is_nobodys(client: ClientCodec) -> None:
    first = oneway(client)
    stream_id = client.next_stream_id()
    client.send(Head(stream_id, CALL, b"\0", end=True))
    assert not client.receive(answer(first)[:9])
    assert only(client.receive(answer(first)[9:] + answer(stream_id))).stream_id == stream_id
    assert f"the call {first}, which waits for none" in violation(client.receive(answer(first)))


def test_only_the_last_oneway_calls_are_remembered(client: ClientCodec) -> None:
    first = oneway(client)
    second = oneway(client)
    for _ in range(MAX_ONEWAYS - 1):
        last = oneway(client)
    assert client.receive(answer(last) + answer(second)) == []
    assert "waits for none" in violation(client.receive(answer(first)))


def test_no_two_calls_have_one_id(client: ClientCodec) -> None:
    assert [client.next_stream_id() for _ in range(3)] == [1, 2, 3]
    client.load(ClientState(b"", False, {}, last_id=0x7FFFFFFF))
    assert client.next_stream_id() == 1


@pytest.mark.parametrize("size", [1, 9, 10**6])
def test_what_comes_unasked_ends_the_connection(client: ClientCodec, size: int) -> None:
    assert violation(client.receive(answer(1)[:size]))


def test_so_does_what_comes_behind_an_answer(client: ClientCodec) -> None:
    client.send(Head(1, CALL, b"\0", end=True))
    frames = client.receive(answer(1) + answer(2)[:3])
    assert isinstance(frames[0], Head)
    assert "answer no call" in violation(frames[1:])


def test_a_strict_answer_to_an_old_call_is_one(client: ClientCodec) -> None:
    old = RequestHead(service="", method="m", extra=ThriftExtra(OLD))
    client.send(Head(1, old, b"\0", end=True))
    assert only(client.receive(answer(1))).stream_id == 1


def test_an_answer_in_another_dialect_is_none(client: ClientCodec) -> None:
    client.send(Head(1, CALL, b"\0", end=True))
    assert "framed compact to a call in framed binary" in violation(
        client.receive(answer(1, COMPACT))
    )


def test_a_dialect_of_the_cluster() -> None:
    client = ClientCodec(DEFAULT_LIMITS, upstreams(COMPACT.transport, COMPACT.protocol))
    assert client.send(Head(3, CALL, b"\0", end=True)).hex() == "00000006822103016d00"


def test_what_cannot_be_sent(client: ClientCodec) -> None:
    client.send(Head(1, CALL, b"\0", end=True))
    for stream_id in (1, -1, 1 << 32):
        with pytest.raises(LocalProtocolError):
            client.send(Head(stream_id, CALL, b"\0", end=True))


def test_a_reset_says_nothing_and_the_answer_may_still_come(client: ClientCodec) -> None:
    client.send(Head(1, CALL, b"\0", end=True))
    assert client.send(Reset(1, Status.CANCELLED)) == b""
    assert only(client.receive(answer(1))).stream_id == 1


def test_it_moves_with_its_oneway_calls(client: ClientCodec) -> None:
    first = oneway(client)
    moved = PLUGIN.restore(client.snapshot(), Role.CLIENT, DEFAULT_LIMITS)
    assert isinstance(moved, ClientCodec)
    assert moved.next_stream_id() == first + 1
    assert moved.receive(answer(first)) == []


def test_it_moves_with_its_calls(client: ClientCodec) -> None:
    client.send(Head(1, CALL, b"\0", end=True))
    client.receive(answer(1)[:9])
    moved = PLUGIN.restore(client.snapshot(), Role.CLIENT, DEFAULT_LIMITS)
    assert only(moved.receive(answer(1)[9:])).stream_id == 1
    assert "waits for none" in violation(moved.receive(answer(1)))
