"""What holds in every encoding."""

from __future__ import annotations

import pytest

from xproxy.codecs.messages import Malformed
from xproxy.codecs.thrift.dialect import ENCODINGS
from xproxy.codecs.thrift.encoding import (
    MAX_DEPTH,
    MAX_NAME_BYTES,
    NAME,
    Encoding,
    check_depth,
    check_kind,
    check_name_length,
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
    assert NAME.fullmatch(b"com.example.Calc:add_2")
    assert not NAME.fullmatch(b"a b")
