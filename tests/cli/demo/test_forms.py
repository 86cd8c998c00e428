"""A text comes back out of the body that it was put into."""

from __future__ import annotations

import pytest
from thrift.protocol.TBinaryProtocol import TBinaryProtocol  # type: ignore[import-untyped]  # ships no types
from thrift.transport.TTransport import TMemoryBuffer  # type: ignore[import-untyped]  # as above

from xproxy.cli.demo.forms import form_of


@pytest.mark.parametrize("protocol", ["bolt", "thrift"])
def test_there_and_back(protocol: str) -> None:
    form = form_of(protocol)
    assert form.read(form.write(b"hi")) == b"hi"
    assert form.read(b"something else") == b"something else"


def test_a_struct_is_one_to_thrift_too() -> None:
    reader = TBinaryProtocol(TMemoryBuffer(form_of("thrift").write(b"hi")))
    reader.readStructBegin()
    _, kind, number = reader.readFieldBegin()
    assert (kind, number, reader.readString()) == (11, 1, "hi")
    reader.readFieldEnd()
    assert reader.readFieldBegin()[1] == 0
