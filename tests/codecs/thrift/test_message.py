"""Names and what they say."""

from __future__ import annotations

import pytest

from xproxy.codecs.message_wire import Malformed
from xproxy.codecs.thrift.dialect import FRAMED_STRICT, Protocol
from xproxy.codecs.thrift.header import write_header
from xproxy.codecs.thrift.message import ThriftExtra, name_of, request_head, response_head
from xproxy.model.errors import LocalProtocolError
from xproxy.model.headers import Headers
from xproxy.model.message import RequestHead
from xproxy.model.status import Status


@pytest.mark.parametrize(
    ("name", "service", "method"),
    [
        ("add", "", "add"),
        ("Calc:add", "Calc", "add"),
        ("a.b.Calc:add:x", "a.b.Calc", "add:x"),
        (":add", "", "add"),
    ],
)
def test_service_and_method(name: str, service: str, method: str) -> None:
    head = request_head(FRAMED_STRICT, False, name.encode(), b"", 0, 10)
    assert (head.service, head.method, head.oneway) == (service, method, False)
    assert name_of(head) == name.encode()


def test_equal_heads_are_one() -> None:
    first = request_head(FRAMED_STRICT, True, b"add", b"", 0, 10)
    assert request_head(FRAMED_STRICT, True, b"add", b"", 0, 10) is first
    assert first.oneway


@pytest.mark.parametrize("name", [b"", b"a\0b", b"a\n", b"\xff", b"\x7f"])
def test_names_that_are_refused(name: bytes) -> None:
    with pytest.raises(Malformed):
        request_head(FRAMED_STRICT, False, name, b"", 0, 10)


def test_an_answer_may_have_no_name() -> None:
    head = response_head(FRAMED_STRICT, 7, False, b"", b"", 0, 10)
    assert (head.status, head.native_status) == (Status.INVALID_ARGUMENT, 7)


def test_fields_of_a_header() -> None:
    fields = Headers((("a", "b"),))
    block = write_header(Protocol.STRICT, (1,), fields)
    head = request_head(FRAMED_STRICT, False, b"m", block, 3, 10)
    assert head.headers == fields
    assert head.extra.headers is head.headers
    assert (head.extra.flags, head.extra.transforms) == (3, (1,))
    with pytest.raises(Malformed):
        request_head(FRAMED_STRICT, False, b"m", block, 3, 0)


def test_the_name_to_call_by() -> None:
    assert name_of(RequestHead(service="a.Calc", method="add")) == b"a.Calc:add"
    assert name_of(RequestHead(service="", method="add")) == b"add"
    changed = RequestHead(service="Other", method="add", extra=ThriftExtra(name="Calc:add"))
    assert name_of(changed) == b"Other:add"
    assert name_of(RequestHead(service="", method="add", extra=ThriftExtra(name=":add"))) == b":add"


@pytest.mark.parametrize(
    ("service", "method"),
    [("a:b", "m"), ("", "a:b"), ("", ""), ("", "m" * 257), ("\ud800", "m"), ("s", "a\nb")],
)
def test_names_that_cannot_be_said(service: str, method: str) -> None:
    with pytest.raises(LocalProtocolError):
        name_of(RequestHead(service=service, method=method))
