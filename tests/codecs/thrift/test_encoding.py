"""What holds in every encoding."""

from __future__ import annotations

import pytest

from xproxy.codecs.message_wire import Malformed
from xproxy.codecs.thrift.dialect import ENCODINGS
from xproxy.codecs.thrift.encoding import (
    MAX_DEPTH,
    MAX_NAME_BYTES,
    Encoding,
    check_depth,
    check_kind,
    check_name_length,
    is_name,
    is_struct,
)

each = pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=[p.value for p in ENCODINGS])


@each
def test_what_is_written_here_is_a_struct(encoding: Encoding) -> None:
    assert is_struct(encoding, encoding.empty)
    assert is_struct(encoding, encoding.exception(6, 'ä"\\'))
    assert encoding.exception_code(encoding.exception(7, "")) == 7
    assert not encoding.declared(encoding.empty)


@each
def test_more_or_less_than_a_struct_is_none(encoding: Encoding) -> None:
    data = encoding.exception(6, "x")
    assert not is_struct(encoding, b"")
    assert not is_struct(encoding, data[:-1])
    assert not is_struct(encoding, data + b"\0")
    assert not is_struct(encoding, data + encoding.write_head(1, b"hidden", 1))
    assert not is_struct(encoding, b"\xff" * 9)


def test_bounds() -> None:
    for kind in (0, 5, 255):
        with pytest.raises(Malformed, match="message type"):
            check_kind(kind)
    check_name_length(MAX_NAME_BYTES)
    check_depth(MAX_DEPTH)
    with pytest.raises(Malformed):
        check_name_length(MAX_NAME_BYTES + 1)
    with pytest.raises(Malformed):
        check_depth(MAX_DEPTH + 1)


@pytest.mark.parametrize(
    "name",
    [
        "com.example.Calc:add_2",
        "user-service:get",
        "com.x.User$Iface:get",
        "svc/v1:get",
        "a b",
        "Büro:öffne",
    ],
)
def test_any_text_is_a_name(name: str) -> None:
    assert is_name(name.encode())


@pytest.mark.parametrize("name", [b"a\0b", b"a\nb", b"\x7f", b"\xff", b"\xc3", b"\xed\xa0\x80"])
def test_what_is_no_text_is_no_name(name: bytes) -> None:
    assert not is_name(name)
