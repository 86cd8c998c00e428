"""Structs change their protocol and nothing else; and nothing hides behind one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from tests.codecs.thrift.values import STRUCTS, Value, write
from xproxy.codecs.thrift.convert import converted
from xproxy.codecs.thrift.dialect import FRAMED_STRICT, Protocol, Transport, dialect_of
from xproxy.codecs.thrift.encoding import is_struct
from xproxy.model.errors import LocalProtocolError

COMPACT = dialect_of(Transport.FRAMED, Protocol.COMPACT)
JSON = dialect_of(Transport.FRAMED, Protocol.JSON)
UNFRAMED = dialect_of(Transport.UNFRAMED, Protocol.STRICT)
OLD = dialect_of(Transport.FRAMED, Protocol.OLD)
LIMIT = 1 << 20


@settings(max_examples=100, deadline=None)
@given(STRUCTS)
def test_each_becomes_what_the_writer_writes_in_the_other(fields: list[tuple[int, Value]]) -> None:
    binary, compact = write(fields, "binary"), write(fields, "compact")
    there = converted(binary, FRAMED_STRICT, COMPACT, LIMIT)
    back = converted(compact, COMPACT, UNFRAMED, LIMIT)
    assert is_struct(COMPACT.encoding, there)
    assert is_struct(UNFRAMED.encoding, back)
    assert there == compact
    # An empty map has no types in the compact protocol, so they cannot come back.
    assert converted(back, FRAMED_STRICT, COMPACT, LIMIT) == compact
    assert back == binary or len(back) == len(binary)


def test_uuids() -> None:
    binary = b"\x10\0\1" + bytes(range(16)) + b"\0"
    compact = converted(binary, FRAMED_STRICT, COMPACT, LIMIT)
    assert compact == b"\x1d" + bytes(range(16)) + b"\0"
    assert converted(compact, COMPACT, FRAMED_STRICT, LIMIT) == binary


def test_one_family_is_copied() -> None:
    data = b"whatever it is"
    assert converted(data, OLD, FRAMED_STRICT, LIMIT) is data


def test_nothing_is_a_struct_without_fields() -> None:
    assert converted(b"", FRAMED_STRICT, UNFRAMED, LIMIT) == b"\0"
    assert converted(b"", FRAMED_STRICT, COMPACT, LIMIT) == b"\0"


@pytest.mark.parametrize("target", [UNFRAMED, COMPACT])
@pytest.mark.parametrize(
    "data",
    [
        b"\0" + b"\x80\1\0\1\0\0\0\6hidden\0\0\0\0\0",
        b"\x08\0\1\0\0",
        b"not a struct",
    ],
)
def test_what_is_not_one_struct_does_not_lose_its_frame(data: bytes, target: object) -> None:
    assert target in (UNFRAMED, COMPACT)
    with pytest.raises(LocalProtocolError, match="no struct"):
        converted(data, FRAMED_STRICT, UNFRAMED if target is UNFRAMED else COMPACT, LIMIT)


def test_what_cannot_be_said() -> None:
    with pytest.raises(LocalProtocolError, match="json cannot be told as binary"):
        converted(b"{}", JSON, FRAMED_STRICT, LIMIT)
    with pytest.raises(LocalProtocolError, match="cannot hold"):
        converted(b"\x14\xfe\xff\x7f\0", COMPACT, FRAMED_STRICT, LIMIT)  # an i16 of 20 bits
    with pytest.raises(LocalProtocolError, match="above 100 bytes"):
        converted(b"\x19\xf6\x40" + b"\x02" * 64 + b"\0", COMPACT, FRAMED_STRICT, 100)
