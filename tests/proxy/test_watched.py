"""Raw TCP that may still be something else: passed on until it is, and seen no longer once it cannot be."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.codecs.api import NO_HINT, VerdictKind
from xproxy.codecs.bolt.plugin import PLUGIN as BOLT
from xproxy.codecs.detect import Detector
from xproxy.codecs.http1.plugin import PLUGIN as HTTP1
from xproxy.codecs.opaque.plugin import PLUGIN as OPAQUE
from xproxy.model.frames import Data, Frame, Violation
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.traits import Role
from xproxy.proxy.watched import Watched, WatchedCodec

PLUGIN = Watched(OPAQUE, Detector([HTTP1, BOLT]), NO_HINT)
REQUEST = b"GET /admin HTTP/1.1\r\n"


def opened() -> WatchedCodec:
    codec = PLUGIN.open(Role.SERVER, DEFAULT_LIMITS)
    assert isinstance(codec, WatchedCodec)
    return codec


def test_it_is_l4() -> None:
    assert (PLUGIN.name, PLUGIN.traits) == ("opaque", OPAQUE.traits)


@pytest.mark.parametrize("request_", [REQUEST, BOLT.examples[0][:22], b"GET /old\r\n"])
@given(cuts=st.lists(st.integers(0, 22)))
def test_a_request_never_passes_whole(request_: bytes, cuts: list[int]) -> None:
    codec, passed, at = opened(), b"", 0
    for cut in [*sorted(c for c in cuts if c < len(request_)), len(request_)]:
        frames = codec.receive(request_[at:cut])
        passed += b"".join(f.data for f in frames if isinstance(f, Data))
        assert not codec.transparent
        at = cut
    assert isinstance(frames[-1], Violation)
    assert len(passed) < len(request_)


def test_what_cannot_be_a_request_any_more_is_not_looked_at() -> None:
    codec = opened()
    seen = []
    for piece in (b"\r\n", b"\x00"):
        codec.receive(piece)
        seen.append(codec.transparent)
    assert seen == [False, True]
    assert codec.receive(REQUEST) == (Data(1, REQUEST),)


def test_the_end_of_input_passes() -> None:
    codec = opened()
    codec.receive(b"\r\n")
    assert codec.receive(None)[-1] == Data(1, b"", end=True)
    assert not codec.transparent


@pytest.mark.parametrize(
    "wire", [b"GET /admin HTTP/1.1", b"GET /admin", b"FOO /admin HTTP/1.1\r", b" GET / HTTP/1.1"]
)
@given(cuts=st.lists(st.integers(0, 20)))
def test_a_request_that_ends_with_the_input_does_not_pass_either(
    wire: bytes, cuts: list[int]
) -> None:
    # http.server takes a line without an end for a line.
    codec, passed, at = opened(), b"", 0
    frames: Sequence[Frame] = ()
    for cut in [*sorted(c for c in cuts if c < len(wire)), len(wire)]:
        frames = codec.receive(wire[at:cut])
        passed += b"".join(f.data for f in frames if isinstance(f, Data))
        at = cut
    assert isinstance(codec.receive(None)[-1], Violation)
    as_a_line = HTTP1.detect(passed + b"\r\n", NO_HINT).kind
    assert as_a_line in (VerdictKind.NO, VerdictKind.MORE)


def test_what_was_held_back_goes_on_where_nobody_is_meant() -> None:
    codec = opened()
    passed = b""
    for piece in (b"G", b"ET /a", b" RTSP/1.0\r\n", b"CSeq: 1\r\n"):
        passed += b"".join(f.data for f in codec.receive(piece) if isinstance(f, Data))
    assert passed == b"GET /a RTSP/1.0\r\nCSeq: 1\r\n"
    assert codec.transparent
