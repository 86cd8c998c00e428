"""Dialects told apart message by message, and what may not be written."""

from __future__ import annotations

import weakref

import pytest

from xproxy.codecs.message_wire import Malformed
from xproxy.codecs.thrift import wire
from xproxy.codecs.thrift.dialect import (
    DIALECTS,
    FRAMED_STRICT,
    Dialect,
    Protocol,
    Transport,
    dialect_of,
)
from xproxy.codecs.thrift.message import ThriftExtra
from xproxy.model.errors import LocalProtocolError
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS, Limits
from xproxy.model.message import Local, RequestHead, ResponseHead
from xproxy.model.status import Status

HEADER = dialect_of(Transport.HEADER, Protocol.STRICT)
LIMIT = 1 << 20
CALL = RequestHead(service="Calc", method="add")


def read(data: bytes, limits: Limits = DEFAULT_LIMITS) -> wire.Message:
    message = wire.decode(data, 0, len(data), limits)
    assert isinstance(message, tuple)
    return message


def test_heads_that_recur_are_one_object() -> None:
    data = wire.request(FRAMED_STRICT, 7, CALL, b"\0", LIMIT)
    first, second = read(data), read(data)
    assert first[3] is second[3]
    assert first[:3] == (1, 7, 7)
    assert first[5] == len(data)


def test_memory_of_heads_is_bounded() -> None:
    heads: list[weakref.ref[RequestHead | ResponseHead]] = []
    for i in range(5000):
        call = RequestHead(service="", method=f"m{i}")
        heads.append(weakref.ref(read(wire.request(FRAMED_STRICT, 7, call, b"\0", LIMIT))[3]))
    assert 0 < sum(head() is not None for head in heads) <= 2048


def test_a_remembered_head_does_not_pass_a_limit() -> None:
    data = wire.request(FRAMED_STRICT, 7, CALL, b"\0" * 100, LIMIT)
    read(data)
    with pytest.raises(Malformed, match="limit 50"):
        read(data, Limits(max_message_bytes=50))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ("00000000 0000", "does not fit"),
        ("00000002 1001", "begins with 1001"),
        ("00000002 dabc", "begins with dabc"),
        ("00000002 8001", "does not fit"),
        ("00000003 0fff 00", "THeader in a frame of 3"),
        ("0000000a 0fff 0000 00000000 0001", "ends behind its frame"),
        ("0000000a 0fff 0000 00000000 0000", "inside a number"),
        ("00000101 61", "257 bytes"),
        ("00000005 5b312c2261", "does not fit"),
        ("47455420 2f20", "method name of"),
    ],
)
def test_what_is_no_message(data: str, what: str) -> None:
    raw = bytes.fromhex(data)
    with pytest.raises(Malformed, match=what):
        wire.decode(raw + b"0" * (6 - len(raw)), 0, max(6, len(raw)), DEFAULT_LIMITS)


def test_json_needs_its_end() -> None:
    data = wire.request(dialect_of(Transport.FRAMED, Protocol.JSON), 7, CALL, b"{}", LIMIT)
    assert data.endswith(b"{}]")
    with pytest.raises(Malformed, match="without its end"):
        read(data[:-1] + b"}")


def test_a_long_header_is_refused() -> None:
    headers = Headers((("k", "v" * 900),))
    head = RequestHead(service="", method="m", headers=headers, extra=ThriftExtra(HEADER))
    data = wire.request(HEADER, 1, head, b"\0", LIMIT)
    assert read(data)[3].headers == headers
    with pytest.raises(Malformed, match="limit 500"):
        read(data, Limits(max_head_bytes=500))


def test_both_ids_of_a_header() -> None:
    """fbthrift gives all payloads the id 0 and matches by the header's."""
    call = ThriftExtra(HEADER, "m", flags=5)
    ok = ResponseHead(status=Status.OK)
    data = wire.response(call, 77, 0, ok, b"", LIMIT)
    assert data[8:12] == (77).to_bytes(4)
    assert read(data)[:3] == (2, 77, 0)


def test_a_foreign_body_is_no_result() -> None:
    call = ThriftExtra(FRAMED_STRICT, "m")
    with pytest.raises(LocalProtocolError, match="no struct"):
        wire.response(call, 1, 1, ResponseHead(status=Status.OK), b"hello", LIMIT)


@pytest.mark.parametrize("dialect", DIALECTS[4:8], ids=lambda d: d.protocol.value)
def test_nothing_hides_behind_a_struct_without_a_frame(dialect: Dialect) -> None:
    encoding = dialect.encoding
    body = encoding.empty + encoding.write_head(1, b"hidden", 1) + encoding.empty
    for extra in (ThriftExtra(dialect, "m"), ThriftExtra(DIALECTS[dialect.number - 4], "m")):
        head = RequestHead(service="", method="m", extra=extra)
        with pytest.raises(LocalProtocolError):
            wire.request(dialect, 1, head, body, LIMIT)
        assert wire.request(dialect, 1, head, encoding.empty, LIMIT)


def test_an_outcome_that_was_changed_is_told_anew() -> None:
    call = ThriftExtra(FRAMED_STRICT, "m")
    changed = ResponseHead(status=Status.NOT_FOUND, native_status=-1, extra=ThriftExtra(name="m"))
    head = read(wire.response(call, 1, 1, changed, b"\0", LIMIT))[3]
    assert isinstance(head, ResponseHead)
    assert (head.status, head.native_status) == (Status.NOT_FOUND, 1)
    detail = ResponseHead(status=Status.UNAVAILABLE, extra=Local(detail="why"))
    assert b"why" in wire.response(call, 1, 1, detail, b"", LIMIT)


def test_an_exception_whose_type_is_minus_one_is_no_success() -> None:
    body = b"\x08\0\2\xff\xff\xff\xff\0"
    payload = FRAMED_STRICT.encoding.write_head(3, b"m", 1) + body
    head = read(len(payload).to_bytes(4) + payload)[3]
    assert isinstance(head, ResponseHead)
    assert head.status is Status.INTERNAL
