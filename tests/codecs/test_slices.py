"""Long work in slices: what comes of it is the same, and it pauses often enough."""

from __future__ import annotations

import pytest
from thrift.Thrift import TType  # type: ignore[import-untyped]  # ships no types

from tests.codecs.thrift.values import Value, write
from xproxy.codecs.slices import Work, at_once
from xproxy.codecs.thrift.client import ClientCodec
from xproxy.codecs.thrift.convert import AT_ONCE, converted, converting
from xproxy.codecs.thrift.dialect import FRAMED_STRICT, Dialect, Protocol, Transport, dialect_of
from xproxy.codecs.thrift.encoding import LOOKED_AT
from xproxy.codecs.thrift.interface import Shape
from xproxy.codecs.thrift.message import request_head
from xproxy.codecs.thrift.server import ServerCodec
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Head
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status

COMPACT = dialect_of(Transport.FRAMED, Protocol.COMPACT)
JSON = dialect_of(Transport.FRAMED, Protocol.JSON)
UNFRAMED = dialect_of(Transport.UNFRAMED, Protocol.STRICT)
COUNT = 5000
ELEMENT: Value = (TType.STRUCT, [(1, (TType.I32, 7)), (2, (TType.LIST, [(TType.BOOL, True)] * 3))])
FIELDS: list[tuple[int, Value]] = [(1, (TType.LIST, [ELEMENT] * COUNT)), (2, (TType.I16, 3))]
SHAPE = Shape(
    12,
    fields={
        1: ("list", Shape(15, element=Shape(12, fields={1: ("a", Shape(8))}))),
        2: ("b", Shape(6)),
    },
)
LIMIT = 1 << 24


def pauses(work: Work[bytes]) -> tuple[int, bytes]:
    count = 0
    while True:
        try:
            next(work)
        except StopIteration as done:
            return count, done.value
        count += 1


@pytest.mark.parametrize(
    ("source", "target", "family"),
    [
        (FRAMED_STRICT, COMPACT, "binary"),
        (COMPACT, FRAMED_STRICT, "compact"),
        (FRAMED_STRICT, JSON, "binary"),
        (JSON, FRAMED_STRICT, "json"),
        (JSON, COMPACT, "json"),
        (COMPACT, UNFRAMED, "compact"),
    ],
)
def test_conversions_pause_and_give_the_same(source: Dialect, target: Dialect, family: str) -> None:
    data = write(FIELDS, family)
    count, found = pauses(converting(data, source, target, LIMIT, lambda: SHAPE))
    assert found == converted(data, source, target, LIMIT, lambda: SHAPE)
    assert found == write(FIELDS, target.encoding.family)
    assert count >= COUNT * 3 // (4 * AT_ONCE)


def test_what_is_only_looked_through_pauses_too() -> None:
    data = write(FIELDS, "binary")
    count, found = pauses(converting(data, UNFRAMED, UNFRAMED, LIMIT))
    assert found is data
    assert count >= len(data) // (2 * LOOKED_AT)


def test_a_call_that_was_prepared_is_written_as_one_that_was_not() -> None:
    head = request_head(FRAMED_STRICT, False, b"m", b"", 0, 10)
    frame = Head(5, head, write(FIELDS, "binary"), True)
    upstreams = dict.fromkeys((FRAMED_STRICT, COMPACT, JSON), COMPACT)
    codecs = [ClientCodec(DEFAULT_LIMITS, upstreams) for _ in range(2)]
    work = codecs[0].prepare(frame)
    assert work is not None
    assert codecs[0].send(at_once(work)) == codecs[1].send(frame)
    short = Head(6, head, b"\0", True)
    assert codecs[0].prepare(short) is None
    same = ClientCodec(DEFAULT_LIMITS)
    assert same.prepare(frame) is None


def test_an_answer_likewise() -> None:
    written = []
    for prepare in (True, False):
        asking = ClientCodec(DEFAULT_LIMITS)
        head = request_head(COMPACT, False, b"m", b"", 0, 10)
        codec = ServerCodec(DEFAULT_LIMITS)
        asked = [
            f for f in codec.receive(asking.send(Head(5, head, b"\0", True))) if type(f) is Head
        ]
        told = ClientCodec(DEFAULT_LIMITS)
        told.send(Head(5, request_head(FRAMED_STRICT, False, b"m", b"", 0, 10), b"\0", True))
        upstream = ServerCodec(DEFAULT_LIMITS)
        (call,) = upstream.receive(
            ClientCodec(DEFAULT_LIMITS).send(
                Head(5, request_head(FRAMED_STRICT, False, b"m", b"", 0, 10), b"\0", True)
            )
        )
        assert type(call) is Head

        raw = upstream.send(
            Head(call.stream_id, ResponseHead(status=Status.OK), write(FIELDS, "binary"), True)
        )
        (answer,) = told.receive(raw)
        assert type(answer) is Head
        frame = Head(asked[0].stream_id, answer.message, answer.data, True)
        if prepare:
            work = codec.prepare(frame)
            assert work is not None
            frame = at_once(work)
        written.append(codec.send(frame))
    assert written[0] == written[1]
    assert len(written[0]) > COUNT


def test_what_cannot_be_converted_is_refused_while_it_is_prepared() -> None:
    head = request_head(FRAMED_STRICT, False, b"m", b"", 0, 10)
    codec = ClientCodec(DEFAULT_LIMITS, dict.fromkeys((FRAMED_STRICT,), COMPACT))
    work = codec.prepare(Head(5, head, bytes(LOOKED_AT), True))
    assert work is not None
    with pytest.raises(LocalProtocolError):
        at_once(work)
