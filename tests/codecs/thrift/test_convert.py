"""Structs change their protocol and nothing else; and nothing hides behind one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from tests.codecs.thrift.values import STRUCTS, Value, write
from xproxy.codecs.thrift.convert import converted
from xproxy.codecs.thrift.dialect import FRAMED_STRICT, Protocol, Transport, dialect_of
from xproxy.codecs.thrift.encoding import is_struct
from xproxy.codecs.thrift.interface import Shape
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
    with pytest.raises(LocalProtocolError, match="json cannot be told as binary: which strings"):
        converted(b'{"1":{"str":"YQ=="}}', JSON, FRAMED_STRICT, LIMIT)
    with pytest.raises(LocalProtocolError, match="compact cannot be told as json: which strings"):
        converted(b"\x18\x01a\0", COMPACT, JSON, LIMIT)
    with pytest.raises(LocalProtocolError, match="cannot hold"):
        converted(b"\x14\xfe\xff\x7f\0", COMPACT, FRAMED_STRICT, LIMIT)  # an i16 of 20 bits
    with pytest.raises(LocalProtocolError, match="above 100 bytes"):
        converted(b"\x19\xf6\x40" + b"\x02" * 64 + b"\0", COMPACT, FRAMED_STRICT, 100)


@settings(max_examples=60, deadline=None)
@given(STRUCTS)
def test_json_becomes_what_the_writer_writes_and_comes_back(
    fields: list[tuple[int, Value]],
) -> None:
    fields = [field for field in fields if not _is_not_for_json(field[1])]
    fields = list({field[0]: field for field in fields}.values())  # JSON has each id once
    binary, compact = write(fields, "binary"), write(fields, "compact")
    text = converted(binary, FRAMED_STRICT, JSON, LIMIT)
    assert is_struct(JSON.encoding, text)
    assert converted(text, JSON, FRAMED_STRICT, LIMIT) == binary
    back = converted(write(fields, "json"), JSON, COMPACT, LIMIT)
    assert back == compact or len(back) == len(compact)  # PyPI writes doubles with 17 digits


def _is_not_for_json(value: Value) -> bool:
    kind, held = value
    if kind == 11:
        return True
    if kind == 12:
        # JSON has each field once.
        twice = len({number for number, _ in held}) < len(held)
        return twice or any(_is_not_for_json(inner) for _, inner in held)
    if kind in (14, 15):
        return any(map(_is_not_for_json, held))
    # A map without entries says no types in JSON that could come back, and keys are there once.
    if kind != 13:
        return False
    keys = {repr(key) for key, _ in held}
    return len(keys) < max(1, len(held)) or any(_is_not_for_json(v) for p in held for v in p)


def test_with_the_interface_text_and_bytes_are_told_apart() -> None:
    shape = Shape(12, fields={1: ("text", Shape(11)), 2: ("raw", Shape(11, binary=True))})
    text = '{"1":{"str":"ü\\n"},"2":{"str":"/wA="}}'.encode()
    binary = converted(text, JSON, FRAMED_STRICT, LIMIT, lambda: shape)
    assert binary == b"\x0b\0\1\0\0\0\3\xc3\xbc\n\x0b\0\2\0\0\0\2\xff\0\0"
    assert converted(binary, FRAMED_STRICT, JSON, LIMIT, lambda: shape) == text
