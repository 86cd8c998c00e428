"""Heads as they cross a link: all that a neutral one says arrives."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.codecs.relay.heads import (
    pack_head,
    pack_trailers,
    read_request,
    read_response,
    read_trailers,
)
from xproxy.codecs.relay.wire import MAX_DATA, Malformed
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Trailers
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS, Limits
from xproxy.model.message import Local, Reason, RequestHead, ResponseHead, Rpc, Target
from xproxy.model.status import Status

TEXT = st.text(max_size=8)
FIELDS = st.lists(st.tuples(TEXT, TEXT), max_size=4).map(tuple)
TARGETS = st.builds(
    Target,
    path=TEXT,
    scheme=TEXT,
    version=TEXT,
    upgrade=TEXT,
    upgrade_only=st.booleans(),
    rpc=st.none() | st.builds(Rpc, TEXT, TEXT, TEXT),
    hop=FIELDS,
    matched=st.tuples(TEXT, TEXT),
)
REQUESTS = st.builds(
    RequestHead,
    service=TEXT,
    method=TEXT,
    headers=st.builds(Headers, FIELDS),
    deadline=st.none() | st.floats(0, 1e6),
    oneway=st.booleans(),
    extra=st.none() | TARGETS,
)
RESPONSES = st.builds(
    ResponseHead,
    status=st.sampled_from(Status),
    native_status=st.none() | st.integers(0, 999),
    headers=st.builds(Headers, FIELDS),
    extra=st.none()
    | st.builds(
        Local,
        detail=TEXT,
        reason=st.sampled_from(Reason),
        retry_after=st.none() | st.integers(0, 1000),
    ),
)
DATA = st.none() | st.binary(max_size=20)


@given(REQUESTS, DATA)
def test_a_request_arrives_as_it_was(head: RequestHead, data: bytes | None) -> None:
    got, came = read_request(pack_head(head, DEFAULT_LIMITS, data=data), DEFAULT_LIMITS)
    assert (got, came) == (head, data)
    if head.extra is not None:
        assert got.extra.hop == head.extra.hop


@given(RESPONSES, DATA)
def test_a_response_arrives_as_it_was(head: ResponseHead, data: bytes | None) -> None:
    packed = pack_head(head, DEFAULT_LIMITS, data=data)
    assert read_response(packed, DEFAULT_LIMITS) == (head, False, data)
    interim = pack_head(head, DEFAULT_LIMITS, interim=True)
    assert read_response(interim, DEFAULT_LIMITS) == (head, True, None)


@given(st.builds(Headers, FIELDS), st.none() | st.sampled_from(Status))
def test_trailers_arrive_as_they_were(headers: Headers, status: Status | None) -> None:
    frame = Trailers(5, headers, status)
    assert read_trailers(pack_trailers(frame, DEFAULT_LIMITS), 5, DEFAULT_LIMITS) == frame


def test_text_of_bytes_that_are_no_text_arrives() -> None:
    head = ResponseHead(status=Status.OK, headers=Headers((("x", "\udcff"),)))
    assert read_response(pack_head(head, DEFAULT_LIMITS), DEFAULT_LIMITS)[0] == head


def test_a_codecs_own_facts_stay_here() -> None:
    head = ResponseHead(status=Status.OK, native_status=20, extra=object())
    assert read_response(pack_head(head, DEFAULT_LIMITS), DEFAULT_LIMITS)[0].extra is None


def test_a_head_above_the_limit_is_not_sent_and_not_read() -> None:
    head = ResponseHead(status=Status.OK, headers=Headers((("x", "v" * 100),)))
    small = Limits(max_head_bytes=100)
    with pytest.raises(LocalProtocolError, match="limit of a link 100"):
        pack_head(head, small, data=bytes(10))
    with pytest.raises(Malformed, match="limit 100"):
        read_response(pack_head(head, DEFAULT_LIMITS, data=bytes(10)), small)
    with pytest.raises(Malformed, match="limit 65536"):
        read_response(pack_head(head, DEFAULT_LIMITS, data=bytes(MAX_DATA + 1)), DEFAULT_LIMITS)
    two = ResponseHead(status=Status.OK, headers=Headers((("a", "b"), ("c", "d"))))
    with pytest.raises(Malformed, match="2 fields, limit 1"):
        read_response(pack_head(two, DEFAULT_LIMITS), Limits(max_headers=1))


def test_a_text_without_bytes_is_our_own_mistake() -> None:
    with pytest.raises(LocalProtocolError, match="no bytes"):
        pack_head(RequestHead(service="\ud800", method=""), DEFAULT_LIMITS)


@given(st.binary(max_size=40))
def test_anything_else_is_refused(payload: bytes) -> None:
    for read in (read_request, read_response, lambda p, lim: read_trailers(p, 1, lim)):
        try:
            read(payload, DEFAULT_LIMITS)
        except Malformed:
            continue


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        [17, None, [], None, False, None],
        [0, "x", [], None, False, None],
        [0, None, [["a"]], None, False, None],
        [0, None, [], ["d", "no-such-reason", None], False, None],
        [0, None, [], ["d"], False, None],
        [0, None, [], None, True, b"a body"],
    ],
)
def test_a_response_that_is_none_is_refused(content: object) -> None:
    with pytest.raises(Malformed):
        read_response(msgpack.packb(content), DEFAULT_LIMITS)


@pytest.mark.parametrize(
    "content",
    [
        ["s", "m", [], None, False, []],
        ["s", "m", [], None, False, ["/", "http", "1", "", False, ["d"], [], ["", ""]]],
        ["s", "m", [], "soon", False, None],
    ],
)
def test_a_request_that_is_none_is_refused(content: list[object]) -> None:
    with pytest.raises(Malformed):
        read_request(msgpack.packb([*content, None]), DEFAULT_LIMITS)
