"""What is remembered: the same for the same head, within bounds, and nothing that a limit would refuse."""

from __future__ import annotations

import attrs
import pytest

from tests.codecs.http1.driving import GET, request, server
from xproxy.codecs.http1.block import Refused
from xproxy.codecs.http1.memory import MAX_HEAD_BYTES, HeadMemory, remembered_bytes
from xproxy.model.frames import Head, Violation
from xproxy.model.limits import DEFAULT_LIMITS, Limits


def test_a_head_seen_before_is_the_same_object() -> None:
    memory = HeadMemory()
    first, second = server(memory=memory), server(memory=memory)
    (a,), (b,) = first.receive(GET), second.receive(bytes(bytearray(GET)))
    assert isinstance(a, Head)
    assert isinstance(b, Head)
    assert a.message is b.message


def test_memory_is_bounded() -> None:
    memory = HeadMemory()
    for number in range(3000):
        block = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number
        assert memory.request(block, DEFAULT_LIMITS, MAX_HEAD_BYTES).message.path == f"/{number}"
        memory.response(
            b"HTTP/1.1 200 OK\r\nX: %d\r\n\r\n" % number, DEFAULT_LIMITS, MAX_HEAD_BYTES
        )
        memory.encode(request(path=f"/{number}"))
    assert len(memory.requests) <= 1024
    assert len(memory.responses) <= 1024
    assert len(memory.encoded) <= 512


def test_long_and_wide_heads_are_not_remembered() -> None:
    memory = HeadMemory()
    long = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n"
    wide = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"x:\r\n" * 80 + b"\r\n"
    for block in (long, wide):
        memory.request(block, DEFAULT_LIMITS, MAX_HEAD_BYTES)
    assert not memory.requests
    memory.encode(request(headers=[("x", "x" * MAX_HEAD_BYTES)]))
    assert not len(memory.encoded)


def test_what_is_refused_is_not_remembered() -> None:
    memory = HeadMemory()
    with pytest.raises(Refused):
        memory.request(b"GET / HTTP/1.1\r\n\r\n", DEFAULT_LIMITS, MAX_HEAD_BYTES)
    assert not memory.requests


@pytest.mark.parametrize(
    "limits",
    [Limits(max_headers=1), Limits(max_target_bytes=4), Limits(max_head_bytes=32)],
)
def test_tighter_limits_hold_for_remembered_heads(limits: Limits) -> None:
    wire = b"GET /long HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n"
    memory = HeadMemory()
    assert isinstance(server(memory=memory).receive(wire)[0], Head)
    assert isinstance(server(limits, memory=memory).receive(wire)[0], Violation)


def test_the_memory_serves_common_limits() -> None:
    assert remembered_bytes(DEFAULT_LIMITS) == MAX_HEAD_BYTES
    assert remembered_bytes(attrs.evolve(DEFAULT_LIMITS, max_head_bytes=100)) == 100
