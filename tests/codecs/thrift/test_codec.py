"""Messages out of any chunks; and the codec against PyPI's thrift, transport by transport, in memory."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thrift.protocol.TBinaryProtocol import TBinaryProtocol  # type: ignore[import-untyped]  # ships no types
from thrift.protocol.TCompactProtocol import TCompactProtocol  # type: ignore[import-untyped]  # as above
from thrift.protocol.THeaderProtocol import THeaderProtocol  # type: ignore[import-untyped]  # as above
from thrift.protocol.TJSONProtocol import TJSONProtocol  # type: ignore[import-untyped]  # as above
from thrift.Thrift import TApplicationException, TMessageType, TType  # type: ignore[import-untyped]  # as above
from thrift.transport.THeaderTransport import (  # type: ignore[import-untyped]  # as above
    THeaderClientType,
    THeaderSubprotocolID,
)
from thrift.transport.TTransport import (  # type: ignore[import-untyped]  # as above
    TBufferedTransport,
    TFramedTransport,
    TMemoryBuffer,
)

from tests.codecs.thrift.recordings import (
    RECORDINGS,
    only,
    read,
    request_of,
    response_of,
    violation,
)
from tests.codecs.thrift.values import STRUCTS, Value, write
from tests.effort import rounds
from xproxy.codecs.thrift.dialect import DIALECTS, Dialect, Protocol, Transport, dialect_of
from xproxy.codecs.thrift.message import ThriftExtra
from xproxy.codecs.thrift.plugin import PLUGIN, ThriftPlugin
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Data, Head, Violation
from xproxy.model.limits import DEFAULT_LIMITS, Limits
from xproxy.model.message import Local, RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role

SPOKEN = [
    d
    for d in DIALECTS
    if (d.transport, d.protocol) != (Transport.HEADER, Protocol.JSON)
    and (d.transport, d.protocol) != (Transport.HEADER, Protocol.OLD)
]
each = pytest.mark.parametrize(
    "dialect", SPOKEN, ids=lambda d: f"{d.transport.value}-{d.protocol.value}"
)


def peer(dialect: Dialect, received: bytes = b"") -> tuple[Any, Any]:  # Any: untyped library
    """Return PyPI's protocol for a dialect, and the memory that it writes to."""
    memory = TMemoryBuffer(received)
    if dialect.transport is Transport.HEADER:
        number = (
            THeaderSubprotocolID.BINARY
            if dialect.protocol is Protocol.STRICT
            else THeaderSubprotocolID.COMPACT
        )
        protocol = THeaderProtocol(memory, (THeaderClientType.HEADERS,), number)
        return protocol, memory
    framed = dialect.transport is Transport.FRAMED
    transport = TFramedTransport(memory) if framed else TBufferedTransport(memory)
    match dialect.protocol:
        case Protocol.STRICT:
            return TBinaryProtocol(transport), memory
        case Protocol.OLD:
            return TBinaryProtocol(transport, strictRead=False, strictWrite=False), memory
        case Protocol.COMPACT:
            return TCompactProtocol(transport), memory
    return TJSONProtocol(transport), memory


def said(dialect: Dialect, name: str, kind: int, seqid: int, number: int) -> bytes:
    """Return a message with one i32, field 1, as PyPI's thrift writes it."""
    protocol, memory = peer(dialect)
    protocol.writeMessageBegin(name, kind, seqid)
    protocol.writeStructBegin("s")
    protocol.writeFieldBegin("n", TType.I32, 1)
    protocol.writeI32(number)
    protocol.writeFieldEnd()
    protocol.writeFieldStop()
    protocol.writeStructEnd()
    protocol.writeMessageEnd()
    protocol.trans.flush()
    data: bytes = memory.getvalue()
    return data


def heard(dialect: Dialect, data: bytes) -> tuple[str, int, int, int]:
    """Read such a message back."""
    protocol, _ = peer(dialect, data)
    name, kind, seqid = protocol.readMessageBegin()
    protocol.readStructBegin()
    _, field_type, field = protocol.readFieldBegin()
    assert (field_type, field) == (TType.I32, 1)
    number = protocol.readI32()
    protocol.readFieldEnd()
    assert protocol.readFieldBegin()[1] == TType.STOP
    protocol.readStructEnd()
    protocol.readMessageEnd()
    return name, kind, seqid, number


@each
@pytest.mark.parametrize(
    "upstream", SPOKEN[:2] + SPOKEN[4:7] + SPOKEN[8:], ids=lambda d: str(d.number)
)
def test_a_call_through_both_sides_in_two_dialects(dialect: Dialect, upstream: Dialect) -> None:
    """PyPI's client in one dialect, PyPI's server in another, the codec between them."""
    if dialect.protocol is Protocol.JSON:
        upstream = dialect
    server = PLUGIN.open(Role.SERVER, DEFAULT_LIMITS)
    client = speaking(upstream).open(Role.CLIENT, DEFAULT_LIMITS)
    call = only(server.receive(said(dialect, "Calc:twice", TMessageType.CALL, 300, 21)))
    assert (request_of(call).service, request_of(call).method) == ("Calc", "twice")
    passed = client.send(Head(1, call.message, call.data, end=True))
    assert heard(upstream, passed) == ("Calc:twice", TMessageType.CALL, 1, 21)
    answer = only(client.receive(said(upstream, "twice", TMessageType.REPLY, 1, 42)))
    back = server.send(Head(call.stream_id, answer.message, answer.data, end=True))
    assert heard(dialect, back) == ("twice", TMessageType.REPLY, 300, 42)


def speaking(dialect: Dialect) -> ThriftPlugin:
    return ThriftPlugin(transport=dialect.transport, protocol=dialect.protocol)


@each
def test_a_local_error_is_an_exception_that_the_client_raises(dialect: Dialect) -> None:
    server = PLUGIN.open(Role.SERVER, DEFAULT_LIMITS)
    call = only(server.receive(said(dialect, "add", TMessageType.CALL, 9, 1)))
    error = ResponseHead(status=Status.UNAVAILABLE, extra=Local(detail='no "healthy" endpoint'))
    protocol, _ = peer(dialect, server.send(Head(call.stream_id, error, b"", end=True)))
    assert protocol.readMessageBegin() == ("add", TMessageType.EXCEPTION, 9)
    raised = TApplicationException()
    raised.read(protocol)
    assert (raised.type, raised.message) == (6, 'no "healthy" endpoint')


@each
def test_a_local_success_is_an_empty_result(dialect: Dialect) -> None:
    server = PLUGIN.open(Role.SERVER, DEFAULT_LIMITS)
    call = only(server.receive(said(dialect, "add", TMessageType.CALL, 9, 1)))
    written = server.send(Head(call.stream_id, ResponseHead(status=Status.OK), b"", end=True))
    protocol, _ = peer(dialect, written)
    assert protocol.readMessageBegin() == ("add", TMessageType.REPLY, 9)
    protocol.readStructBegin()
    assert protocol.readFieldBegin()[1] == TType.STOP


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([d for d in SPOKEN if d.encoding.family != "json"]),
    st.lists(STRUCTS, min_size=1, max_size=4),
    st.integers(1, 50),
)
def test_any_calls_in_any_dialect_in_any_cut(
    dialect: Dialect, structs: list[list[tuple[int, Value]]], size: int
) -> None:
    client = PLUGIN.open(Role.CLIENT, DEFAULT_LIMITS)
    server = PLUGIN.open(Role.SERVER, DEFAULT_LIMITS)
    bodies = [write(fields, dialect.encoding.family) for fields in structs]
    head = RequestHead(service="S", method="m", extra=ThriftExtra(dialect))
    data = b"".join(
        client.send(Head(i, head, body, end=True)) for i, body in enumerate(bodies, 100)
    )
    frames = read(server, [data[i : i + size] for i in range(0, len(data), size)])
    assert [(f.stream_id, f.data) for f in frames if isinstance(f, Head)] == [
        (i, body) for i, body in enumerate(bodies, 100)
    ]


@settings(max_examples=250, deadline=None)
@given(st.binary(max_size=80), st.sampled_from(list(Role)), st.integers(1, 9))
def test_garbage_gives_frames(data: bytes, role: Role, size: int) -> None:
    limits = Limits(max_message_bytes=60, max_head_bytes=40, max_headers=2)
    whole = list(PLUGIN.open(role, limits).receive(data))
    codec = PLUGIN.open(role, limits)
    cut = read(codec, [data[i : i + size] for i in range(0, len(data), size)])
    assert [type(f) for f in whole] == [type(f) for f in cut]
    assert [f for f in whole if isinstance(f, Head)] == [f for f in cut if isinstance(f, Head)]


@pytest.mark.parametrize("recording", RECORDINGS[::3], ids=lambda r: r.name)
def test_the_end_of_input(recording: Any) -> None:
    codec = PLUGIN.open(Role.SERVER, DEFAULT_LIMITS)
    assert list(codec.receive(None)) == []
    assert list(codec.receive(recording.asked)) == []
    codec = PLUGIN.open(Role.SERVER, DEFAULT_LIMITS)
    codec.receive(recording.asked[:-1])
    assert "into a message" in violation(codec.receive(None))
    assert list(codec.receive(b"more")) == []
    assert list(codec.receive(None)) == []


def test_a_message_above_the_limit_is_refused_at_its_length() -> None:
    limits = Limits(max_message_bytes=100)
    for data in (
        "00000065 80010001 00000001 61 00000007",
        "00000065 8221 07 01 61",
        "00000065 0fff 0000 00000007 0001 00",
        "80010001 00000001 61 00000007 0b0001 00000064",
    ):
        codec = PLUGIN.open(Role.SERVER, limits)
        assert "limit 100" in violation(codec.receive(bytes.fromhex(data))), data


FS, FO, FC, FJ = (dialect_of(Transport.FRAMED, protocol) for protocol in Protocol)
US, _, UC, UJ = (dialect_of(Transport.UNFRAMED, protocol) for protocol in Protocol)
HS, _, HC, _ = (dialect_of(Transport.HEADER, protocol) for protocol in Protocol)
CALLED = [
    # Above the limit, by the declared length or in walking.
    (FS, "00000065 80010001 00000001 61 00000007"),
    (FO, "00000065 00000001 61 01 00000007"),
    (FC, "00000065 8221 07 01 61"),
    (HS, "00000065 0fff 0000 00000007 0001 00"),
    (FJ, "00000065 5b312c2261222c312c372c"),
    (US, "80010001 00000001 61 00000007 0b0001 00000064"),
    (UC, "8221 07 01 61 18 64"),
    # No struct, or none that ends.
    (US, "80010001 00000001 61 00000007 77 0001"),
    (UC, "8221 07 01 61 1f"),
    (UJ, "5b312c2261222c312c372c 7b 5d"),
    (FJ, "0000000d 5b312c2261222c312c372c 7b7d"),
    # A THeader whose payload cannot be had.
    (HS, "00000010 0fff 0000 00000007 0001 00 01 01 00 8001"),
    (HC, "0000000e 0fff 0000 00000007 0001 02 00 00 00"),
    (HS, "0000000e 0fff 0000 00000007 0001 00 01 09 00"),
]
"""Calls with the sequence id 7 of which something is wrong."""


@pytest.mark.parametrize(("dialect", "data"), CALLED, ids=lambda v: v if type(v) is str else "")
def test_a_malformed_call_is_answered_before_the_end(dialect: Dialect, data: str) -> None:
    raw = bytes.fromhex(data)
    told = []
    for pieces in ([raw], [raw[i : i + 1] for i in range(len(raw))]):
        codec = PLUGIN.open(Role.SERVER, Limits(max_message_bytes=100))
        last = read(codec, pieces)[-1]
        assert isinstance(last, Violation)
        told.append(last.farewell)
    assert told[0] == told[1]
    protocol, _ = peer(dialect, told[0])
    assert protocol.readMessageBegin()[1:] == (TMessageType.EXCEPTION, 7)
    raised = TApplicationException()
    raised.read(protocol)
    assert raised.type == TApplicationException.PROTOCOL_ERROR


@pytest.mark.parametrize(
    "data",
    [
        "00000002 8001",  # no head
        "80010004 00000001 61 00000007 77 0001",  # oneway
        "00000065 80010003 00000001 61 00000007",  # an answer
        "0000000e 0fff 0000 00000007 0001 05 00 00 00",  # in no known protocol
        "80010001 00000002 6100 00000007 77 0001",  # by no name
    ],
)
def test_what_nobody_waits_for_is_not_answered(data: str) -> None:
    codec = PLUGIN.open(Role.SERVER, Limits(max_message_bytes=100))
    last = codec.receive(bytes.fromhex(data))[-1]
    assert isinstance(last, Violation)
    assert last.farewell == b""


def test_the_answer_to_a_malformed_call_waits_for_its_turn() -> None:
    codec = PLUGIN.open(Role.SERVER, DEFAULT_LIMITS)
    call = bytes.fromhex("80010001 00000001 61 00000000 00")
    wrong = bytes.fromhex("80010001 00000001 61 00000000 77 0001")
    first, violated = codec.receive(call + wrong)
    assert isinstance(first, Head)
    assert isinstance(violated, Violation)
    assert violated.farewell == b""
    assert codec.receive(call) == ()
    told = codec.send(Head(first.stream_id, ResponseHead(status=Status.OK), b"", end=True))
    assert told.startswith(bytes.fromhex("80010002 00000001 61 00000000 00 80010003 00000001 61"))


def test_a_large_message_without_a_frame_is_not_copied_again_and_again() -> None:
    dialect = dialect_of(Transport.UNFRAMED, Protocol.STRICT)
    body = b"\x0f\0\1\x0b\0\0\x40\0" + (b"\0\0\0\x20" + b"x" * 32) * 0x4000 + b"\0"
    client = PLUGIN.open(Role.CLIENT, DEFAULT_LIMITS)
    head = RequestHead(service="", method="m", extra=ThriftExtra(dialect))
    data = client.send(Head(1, head, body, end=True))
    pieces = [data[i : i + 16] for i in range(0, len(data), 16)]

    def take() -> None:
        assert only(read(PLUGIN.open(Role.SERVER, DEFAULT_LIMITS), pieces)).data == body

    bound = 6e7
    assert rounds(take, bound) < bound, "37,000 pieces of 590 KB"


def test_deep_nests_end_the_connection_and_nothing_else() -> None:
    for data in (
        b"\x80\1\0\1\0\0\0\1m\0\0\0\0" + b"\x0c\0\1" * 50_000,
        b"\x82\x21\0\1m" + b"\x1c" * 50_000,
        b'[1,"m",1,0,' + b'{"1":' * 50_000,
    ):
        assert "deeper" in violation(PLUGIN.open(Role.SERVER, DEFAULT_LIMITS).receive(data))


def test_a_peer_may_change_its_dialect_between_messages() -> None:
    codec = PLUGIN.open(Role.SERVER, DEFAULT_LIMITS)
    data = b"".join(said(d, "m", TMessageType.CALL, i, i) for i, d in enumerate(SPOKEN))
    frames = [f for f in codec.receive(data) if isinstance(f, Head)]
    assert [request_of(f).extra.dialect for f in frames] == SPOKEN


@pytest.mark.parametrize("role", list(Role))
def test_only_whole_messages_are_sent(role: Role) -> None:
    codec = PLUGIN.open(role, DEFAULT_LIMITS)
    head = RequestHead(service="", method="m")
    for frame in (
        Head(1, head),
        Data(1, b""),
        Violation("x"),
        Head(1, head if role is Role.SERVER else ResponseHead(status=Status.OK), b"", end=True),
    ):
        with pytest.raises(LocalProtocolError):
            codec.send(frame)


def test_what_a_peer_sends_of_the_wrong_kind() -> None:
    call = said(SPOKEN[0], "m", TMessageType.CALL, 1, 1)
    answer = said(SPOKEN[0], "m", TMessageType.REPLY, 1, 1)
    assert "an answer" in violation(PLUGIN.open(Role.SERVER, DEFAULT_LIMITS).receive(answer))
    assert "a call" in violation(PLUGIN.open(Role.CLIENT, DEFAULT_LIMITS).receive(call))


def test_an_exception_of_a_server_is_its_status() -> None:
    client = PLUGIN.open(Role.CLIENT, DEFAULT_LIMITS)
    client.send(Head(5, RequestHead(service="", method="m"), b"\0", end=True))
    protocol, memory = peer(SPOKEN[0])
    protocol.writeMessageBegin("m", TMessageType.EXCEPTION, 5)
    TApplicationException(1, "unknown").write(protocol)
    protocol.writeMessageEnd()
    protocol.trans.flush()
    head = response_of(only(client.receive(memory.getvalue())))
    assert (head.status, head.native_status) == (Status.NOT_FOUND, 1)


@pytest.mark.parametrize("name", [".echo", ":echo", "9echo", "_echo", "Echo"])
@each
def test_a_name_may_begin_with_anything_that_it_may_hold(dialect: Dialect, name: str) -> None:
    server = PLUGIN.open(Role.SERVER, DEFAULT_LIMITS)
    wire = said(FS, name, TMessageType.CALL, 1, 2)
    call = only(server.receive(wire))
    passed = (
        speaking(dialect)
        .open(Role.CLIENT, DEFAULT_LIMITS)
        .send(Head(1, call.message, call.data, end=True))
    )
    again = request_of(only(PLUGIN.open(Role.SERVER, DEFAULT_LIMITS).receive(passed)))
    assert again.extra.name == name
