"""Frames of a link, byte by byte."""

from __future__ import annotations

import pytest

from xproxy.codecs.relay.wire import (
    LARGEST_ID,
    MAX_DATA,
    Kind,
    Malformed,
    longest,
    pack,
    pack_body,
    pack_reset,
    read_count,
    read_reset,
)
from xproxy.model.errors import LocalProtocolError
from xproxy.model.limits import Limits
from xproxy.model.status import Status


def test_a_frame_is_kind_length_and_stream_id() -> None:
    assert pack(Kind.DATA, 7, b"abc") == bytes.fromhex("02 00000003 0000000000000007") + b"abc"
    assert pack(Kind.BYE, 0) == bytes.fromhex("0a 00000000 0000000000000000")


@pytest.mark.parametrize("stream_id", [-1, LARGEST_ID + 1])
def test_an_id_without_bytes_is_our_own_mistake(stream_id: int) -> None:
    with pytest.raises(LocalProtocolError, match="is not 0"):
        pack(Kind.END, stream_id)


def test_a_body_is_as_many_frames_as_it_needs() -> None:
    assert pack_body(Kind.DATA, 1, b"") == b""
    data = bytes(range(256)) * 600
    packed = pack_body(Kind.MESSAGE, 1, data)
    assert packed == b"".join(
        pack(Kind.MESSAGE, 1, data[at : at + MAX_DATA]) for at in range(0, len(data), MAX_DATA)
    )


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("status", list(Status))
def test_a_reset_says_why(status: Status, refused: bool) -> None:
    payload = pack_reset(3, status, refused=refused)[13:]
    assert read_reset(payload) == (status, refused)


@pytest.mark.parametrize("payload", [b"", b"\0", b"\x11\0", b"\0\2", b"\0\0\0"])
def test_a_reset_that_says_something_else_is_refused(payload: bytes) -> None:
    with pytest.raises(Malformed):
        read_reset(payload)


def test_a_count_is_four_bytes() -> None:
    assert read_count(b"\0\1\0\0") == 65536
    with pytest.raises(Malformed):
        read_count(b"\0\1\0")


def test_every_kind_has_a_bound_and_no_other_is_taken() -> None:
    limits = Limits(max_head_bytes=100)
    assert {kind.name: longest(kind, limits) for kind in Kind} == {
        "HEAD": 100 + MAX_DATA,
        "DATA": MAX_DATA,
        "END": 0,
        "TRAILERS": 100,
        "RESET": 2,
        "CREDIT": 4,
        "CONSUMED": 4,
        "GOAWAY": 0,
        "MESSAGE": MAX_DATA,
        "BYE": 0,
    }
    for unknown in (0, 11, 255):
        with pytest.raises(Malformed, match="unknown kind"):
            longest(unknown, limits)
