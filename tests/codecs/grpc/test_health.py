"""The messages of the health service."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xproxy.codecs.grpc.health import (
    PATH,
    NotHealth,
    Serving,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)


def test_the_path() -> None:
    assert PATH == "/grpc.health.v1.Health/Check"


@pytest.mark.parametrize(
    ("service", "wire"),
    [("", b""), ("a.B", b"\x0a\x03a.B"), ("x" * 200, b"\x0a\xc8\x01" + b"x" * 200)],
)
def test_requests(service: str, wire: bytes) -> None:
    assert encode_request(service) == wire
    assert decode_request(wire) == service


@pytest.mark.parametrize("serving", Serving)
def test_responses(serving: Serving) -> None:
    assert decode_response(encode_response(serving)) is serving
    assert encode_response(Serving.SERVING) == b"\x08\x01"


def test_unknown_fields_and_states_do_not_matter() -> None:
    more = b"\x10\x05" + b"\x1a\x02zz" + b"\x21" + bytes(8) + b"\x2d" + bytes(4)
    assert decode_request(more + b"\x0a\x01a\x0a\x01b") == "b"
    assert decode_response(more + b"\x08\x02") is Serving.NOT_SERVING
    assert decode_response(b"\x08\x63") is Serving.UNKNOWN


@pytest.mark.parametrize(
    "wire",
    [b"\x0a\x05ab", b"\x0a", b"\x0b", b"\x0a\x02\xff\xfe", b"\xff" * 11, b"\x21\x00", b"\x0c"],
)
def test_what_is_no_request_is_refused(wire: bytes) -> None:
    with pytest.raises(NotHealth):
        decode_request(wire)


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(wire: bytes) -> None:
    for decode in (decode_request, decode_response):
        try:
            decode(wire)
        except NotHealth:
            continue
