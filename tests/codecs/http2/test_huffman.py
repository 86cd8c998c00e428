"""Huffman's code: hpack's own decoder, four bits at a time, is the judge."""

from __future__ import annotations

import pytest
from hpack.exceptions import HPACKDecodingError
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.huffman_table import decode_huffman
from hypothesis import given
from hypothesis import strategies as st

from xproxy.codecs.http2 import huffman

ENCODER = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


@given(st.binary(max_size=200))
def test_what_was_encoded_is_read(data: bytes) -> None:
    assert huffman.decode(ENCODER.encode(data)) == data.decode("latin-1")


def test_every_octet_is_read_at_every_place_of_a_byte() -> None:
    for before in range(8):  # "0" has five bits
        for octet in range(256):
            data = b"0" * before + bytes((octet,))
            assert huffman.decode(ENCODER.encode(data)) == data.decode("latin-1")


@given(
    st.one_of(
        st.binary(max_size=40),
        st.builds(
            lambda data, end: ENCODER.encode(data) + end,
            st.binary(max_size=20),
            st.sampled_from([b"\xff", b"\xfe", b"\x00", b"\xff\xff\xff\xff"]),
        ),
    )
)
def test_any_bytes_are_read_or_refused_as_hpack_does(data: bytes) -> None:
    try:
        expected = decode_huffman(data).decode("latin-1")
    except HPACKDecodingError:
        with pytest.raises(ValueError, match="Huffman"):
            huffman.decode(data)
    else:
        assert huffman.decode(data) == expected
