from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.codecs.http2.wire import settings
from xproxy.codecs.other_protocol import HERE, other_protocol
from xproxy.model.frames import Head, Violation
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead, Target
from xproxy.model.traits import Role
from xproxy.registry import default_registry

ALERT = b"\x15\x03\x03\x00\x02\x02\x46"
ANSWERS = {
    ("http1", settings([(3, 100)])): "`codec: http2`",
    ("http1", settings([])): "`codec: http2`",
    ("http1", ALERT): "`tls`",
    ("http2", b"HTTP/1.1 400 Bad Request\r\n\r\n"): "`codec: http1`",
    ("http2", b"HTTP/1.0 400 Bad Request\r\n\r\n"): "`codec: http1`",
    ("http2", ALERT): "`tls`",
}


def read(codec: str, pieces: list[bytes]) -> Violation | None:
    """Return how a client's codec that waits for an answer judges these bytes."""
    client = default_registry().codec(codec).open(Role.CLIENT, DEFAULT_LIMITS)
    client.receive(b"")
    head = RequestHead(service="a", method="GET", extra=Target(path="/"))
    client.send(Head(1, head, b"", True))
    for piece in pieces:
        for frame in client.receive(piece):
            if isinstance(frame, Violation):
                return frame
    return None


@pytest.mark.parametrize(("codec", "answer"), ANSWERS)
def test_another_protocol_is_named_with_the_remedy(codec: str, answer: bytes) -> None:
    for pieces in ([answer], [answer[n : n + 1] for n in range(len(answer))]):
        found = read(codec, pieces)
        assert found is not None
        assert ANSWERS[codec, answer] in found.detail
        assert found.detail.endswith(f"on {HERE}")


@given(st.binary(max_size=40), st.sampled_from(["HTTP/1.1", "HTTP/2"]))
def test_nothing_speaks_of_a_protocol_that_was_asked_in(start: bytes, asked: str) -> None:
    assert f"answered {asked}" not in other_protocol(start, asked)


def test_an_answer_in_the_protocol_asked_for_is_no_other() -> None:
    assert other_protocol(b"HTTP/1.1 200 OK", "HTTP/1.1") == ""
    assert other_protocol(settings([]), "HTTP/2") == ""
    assert other_protocol(b"", "HTTP/2") == ""
