"""gRPC-Web's trailers and base64."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xproxy.codecs.grpc.framing import TRAILERS, MessageReader, NotMessages
from xproxy.codecs.grpc.web import TextReader, encode_piece, parse_trailers, trailer_frame
from xproxy.model.headers import Headers


def test_trailers_are_lines_in_lower_case() -> None:
    raw = trailer_frame(Headers((("Grpc-Status", "0"), ("grpc-message", "a: b"))))
    assert raw[:5] == b"\x80\0\0\0\x24"
    ((flags, payload),) = MessageReader(100).feed(raw)
    assert flags == TRAILERS
    assert payload == b"grpc-status: 0\r\ngrpc-message: a: b\r\n"
    assert parse_trailers(payload).pairs == (("grpc-status", "0"), ("grpc-message", "a: b"))


def test_a_value_cannot_end_its_line() -> None:
    raw = trailer_frame(Headers((("a", "b\r\ngrpc-status: 0"),)))
    assert raw[5:] == b"a: b  grpc-status: 0\r\n"


def test_what_is_no_line_is_left_out() -> None:
    assert parse_trailers(b"x\r\nA:b\r\n\r\n").pairs == (("a", "b"),)


@settings(max_examples=100)
@given(st.lists(st.binary(max_size=20), max_size=6), st.lists(st.integers(1, 9), max_size=40))
def test_pieces_padded_apart_and_cut_anywhere(pieces: list[bytes], cuts: list[int]) -> None:
    text = b"".join(encode_piece(piece) for piece in pieces)
    reader = TextReader()
    found = b""
    for cut in cuts:
        found += reader.feed(text[:cut])
        text = text[cut:]
    found += reader.feed(text)
    reader.finish()
    assert found == b"".join(pieces)


def test_line_breaks_do_not_matter() -> None:
    assert TextReader().feed(base64.encodebytes(b"x" * 100)) == b"x" * 100


@pytest.mark.parametrize("text", [b"a$b=", b"====", b"ab=c", b"a===", b"AB==C==="])
def test_what_is_not_base64_is_refused(text: bytes) -> None:
    with pytest.raises(NotMessages, match="not base64"):
        TextReader().feed(text)


def test_half_a_group_is_refused_at_the_end() -> None:
    reader = TextReader()
    assert reader.feed(b"YWJjZ") == b"abc"
    with pytest.raises(NotMessages, match="middle"):
        reader.finish()
