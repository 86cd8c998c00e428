"""The frames of ``pieces``."""

from __future__ import annotations

import pytest

from xproxy.model.errors import LocalProtocolError
from xproxy.model.limits import DEFAULT_LIMITS, Limits
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.testing.fakes.pieces_wire import (
    FRAME,
    MAX_DATA,
    Bad,
    Kind,
    check_frame,
    pack,
    pack_body,
    read_fields,
    read_head,
    unpack,
)


@pytest.mark.parametrize(
    ("kind", "size", "words"),
    [
        (0, 0, "unknown kind of frame 0"),
        (9, 0, "unknown kind of frame 9"),
        (Kind.DATA, MAX_DATA + 1, "a DATA frame declares 16385 bytes, limit 16384"),
        (Kind.PING, 1, "a PING frame declares 1 bytes, limit 0"),
        (Kind.HEAD, 65537, "a HEAD frame declares 65537 bytes, limit 65536"),
    ],
)
def test_a_frame_is_checked_by_its_first_bytes(kind: int, size: int, words: str) -> None:
    with pytest.raises(Bad, match=words):
        check_frame(kind, size, DEFAULT_LIMITS)


def test_a_long_body_takes_several_frames_and_the_last_one_ends_it() -> None:
    wire = pack_body(5, bytes(MAX_DATA + 1), end=True)
    assert FRAME.unpack_from(wire) == (Kind.DATA, 0, 5, MAX_DATA)
    assert FRAME.unpack_from(wire, FRAME.size + MAX_DATA) == (Kind.DATA, 1, 5, 1)


def test_heads_are_read_by_the_side_they_are_for() -> None:
    ask = pack(Kind.HEAD, 0, 1, ["a", "b", [["k", "v"]]], DEFAULT_LIMITS)[FRAME.size :]
    head, interim = read_head(ask, Role.SERVER, DEFAULT_LIMITS)
    assert isinstance(head, RequestHead)
    assert (head.service, head.method, head.headers["K"], interim) == ("a", "b", "v", False)
    answer = pack(Kind.HEAD, 0, 1, [5, True, []], DEFAULT_LIMITS)[FRAME.size :]
    assert read_head(answer, Role.CLIENT, DEFAULT_LIMITS) == (
        ResponseHead(status=Status.NOT_FOUND, native_status=5),
        True,
    )
    with pytest.raises(Bad, match="does not hold"):
        read_head(ask, Role.CLIENT, DEFAULT_LIMITS)


def test_what_is_no_head_is_refused() -> None:
    with pytest.raises(Bad, match="not msgpack"):
        unpack(b"\xc1")
    with pytest.raises(Bad, match="not a pair"):
        read_fields([["a"]], DEFAULT_LIMITS)
    with pytest.raises(Bad, match="2 fields, limit 1"):
        read_fields([["a", "b"]] * 2, Limits(max_headers=1))
    with pytest.raises(LocalProtocolError, match="head is 503 bytes, limit 100"):
        pack(Kind.HEAD, 0, 1, "x" * 500, Limits(max_head_bytes=100))
