"""``grpc-message``."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xproxy.codecs.grpc.text import decode_text, encode_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain, with ~ and =", "plain, with ~ and ="),
        ("100 %", "100 %25"),
        ("bäd\n", "b%C3%A4d%0A"),
        ("\x7f", "%7F"),
        (" both ends ", "%20both ends%20"),
        ("  ", "%20%20"),
        ("", ""),
    ],
)
def test_what_is_written(text: str, value: str) -> None:
    assert encode_text(text) == value
    assert decode_text(value) == text


@settings(max_examples=200)
@given(st.text())
def test_what_was_written_is_a_field_and_reads_the_same(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    value = encode_text(text)
    assert value.isascii()
    assert value.isprintable()
    assert value == value.strip()
    assert decode_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [("%", "%"), ("%2", "%2"), ("%zz", "%zz"), ("%FF", "�"), ("ä", "ä")]
)
def test_what_is_wrongly_encoded_stays(value: str, text: str) -> None:
    assert decode_text(value) == text


def test_text_that_has_no_bytes_is_still_written() -> None:
    assert encode_text("\ud800") == "?"
