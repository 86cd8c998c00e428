"""Client and server back to back, garbage of every kind, and time that grows with the input only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codecs.http1.driving import (
    GET,
    Http1,
    asked,
    asking,
    client,
    events,
    kept,
    possible,
    request,
    response,
    server,
    without_framing,
)
from xproxy.codecs.http_fields import NOT_IN_TRAILERS, PLAIN, kind_of
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Credit, Data, Frame, GoAway, Head, Reply, Reset, Trailers, Violation
from xproxy.model.headers import Headers
from xproxy.model.limits import Limits
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status

Message: TypeAlias = tuple[Frame, ...]

_TCHAR = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_names = st.text(_TCHAR, min_size=1, max_size=12).filter(lambda name: kind_of(name) == PLAIN)
_values = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f")
    | st.just("\t"),
    max_size=20,
).map(lambda value: value.strip(" \t"))
_headers = st.lists(st.tuples(_names, _values), max_size=5).map(Headers)
_trailers = st.lists(
    st.tuples(_names.filter(lambda name: name.lower() not in NOT_IN_TRAILERS), _values),
    min_size=1,
    max_size=3,
).map(Headers)
_paths = st.text("abc/?=%20&.é", max_size=20).map(lambda text: "/" + text)
_services = st.sampled_from(["a", "a.example:8080", "[::1]:80", ""])
_methods = st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "M-SEARCH"])
_requests = st.builds(
    lambda method, path, headers, service: request(method, path, headers, service=service),
    _methods,
    _paths,
    _headers,
    _services,
)
_responses = st.builds(
    response, st.sampled_from([200, 204, 206, 301, 304, 404, 500, 503, 599]), _headers
)


@st.composite
def messages(draw: st.DrawFn, heads: st.SearchStrategy[RequestHead | ResponseHead]) -> Message:
    """A message: whole, in pieces of a declared length, or in pieces with or without trailers."""
    head = draw(heads)
    pieces = draw(st.lists(st.binary(max_size=30), max_size=4))
    how = draw(st.sampled_from(["whole", "declared", "pieces", "trailers"]))
    if how == "whole":
        return (Head(1, head, b"".join(pieces), end=True),)
    if how == "declared":
        length = str(sum(map(len, pieces)))
        head = attrs.evolve(head, headers=head.headers.add("content-length", length))
    body = tuple(Data(1, piece) for piece in pieces)
    if how == "trailers":
        return (Head(1, head), *body, Trailers(1, draw(_trailers)))
    return (Head(1, head), *body, Data(1, b"", end=True))


def carry(codec: Http1, wire: bytes, points: Sequence[int]) -> list[Frame]:
    """Hand ``wire`` to the codec, cut at ``points``."""
    places = sorted(min(point, len(wire)) for point in points)
    frames: list[Frame] = []
    for start, stop in zip([0, *places], [*places, len(wire)], strict=True):
        frames += codec.receive(wire[start:stop])
        assert possible(codec)
    return frames


_points = st.lists(st.integers(0, 400), max_size=4)


def _sent(frames: Message, *, bodyless: bool) -> list[tuple[object, ...]]:
    """Return what should arrive of a message."""
    plain = [
        frame for frame in frames if not (isinstance(frame, Data) and not (frame.data or frame.end))
    ]
    found = without_framing(plain)
    if bodyless:
        found = [event for event in found if event[0] == "head"] + [("end",)]
    return found


@given(
    st.lists(st.tuples(messages(_requests), messages(_responses), _points), min_size=1, max_size=4)
)
@settings(max_examples=150)
def test_what_one_side_says_the_other_hears(talk: list[tuple[Message, Message, list[int]]]) -> None:
    up, down = client(), server()
    for asks, answers, points in talk:
        wire = b"".join(up.send(frame) for frame in asks)
        assert without_framing(carry(down, wire, points)) == _sent(asks, bodyless=False)
        wire = b"".join(down.send(frame) for frame in answers)
        head, asked_head = answers[0], asks[0]
        assert isinstance(head, Head)
        assert isinstance(head.message, ResponseHead)
        assert isinstance(asked_head, Head)
        assert isinstance(asked_head.message, RequestHead)
        bodyless = head.message.native_status in (204, 304) or asked_head.message.method == "HEAD"
        assert without_framing(carry(up, wire, points)) == _sent(answers, bodyless=bodyless)
        assert not down.receive(b"")
        assert kept(down) == []
        assert kept(up) == []


_FRAGMENTS = [
    *(
        b"GET / HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n",
        b"GET / HTTP/1.0\r\n",
    ),
    *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 X\r\n", b"HTTP/1.1 204 X\r\n", b"HTTP/1.0 200 X\r\n"),
    *(b"Host: a\r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"X: 1\r\n"),
    *(
        b"Connection: close\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"3\r\nabc\r\n",
        b"0\r\n",
        b"abc",
        b"\r",
        b"\n",
        b"\0",
    ),
]
_wires = st.lists(st.sampled_from(_FRAGMENTS) | st.binary(max_size=6), max_size=14).map(b"".join)
_frames = st.sampled_from(
    [
        Head(1, request(), b"", end=True),
        Head(1, request("PUT")),
        Head(1, request("CONNECT", "", service="a:1")),
        Head(1, request("HEAD"), b"", end=True),
        Head(1, response(), b"hi", end=True),
        Head(1, response(200, [("Content-Length", "2")])),
        Head(1, response(), b"x"),
        Head(1, response(103), interim=True),
        Data(1, b"hi"),
        Data(1, b"", end=True),
        Data(1, b"hi", end=True),
        Trailers(1, Headers([("X", "1")])),
        Reset(1, Status.CANCELLED),
        GoAway(),
        Credit(),
        Reply(b"x"),
    ]
)


@given(st.sampled_from(["server", "client"]), st.lists(_wires | st.none() | _frames, max_size=8))
@settings(max_examples=400)
def test_nothing_makes_it_raise_or_leave_its_states(
    role: str, script: list[bytes | Frame | None]
) -> None:
    codec: Http1 = server() if role == "server" else client()
    broken = False
    for step in script:
        if step is None or isinstance(step, bytes):
            frames = codec.receive(step)
            assert not (broken and frames), "frames after a violation"
            broken = broken or any(isinstance(frame, Violation) for frame in frames)
            assert not broken or not frames or isinstance(frames[-1], Violation)
        else:
            try:
                codec.send(step)
            except LocalProtocolError:
                pass
        assert possible(codec)


@given(_wires, st.lists(st.integers(0, 200), max_size=5))
@settings(max_examples=300)
def test_cuts_are_invisible_in_garbage_too(wire: bytes, points: list[int]) -> None:
    for make in (server, asking):
        whole, cut = make(), make()
        assert events(carry(whole, wire, [])) == events(carry(cut, wire, points))


@pytest.mark.parametrize(
    "wire",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 200_000,
        b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 40_000,
        b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"x" * 200_000,
    ],
    ids=["head", "chunks", "trailers"],
)
def test_no_byte_is_searched_for_every_read(wire: bytes) -> None:
    # Were it quadratic, 200,000 single bytes would be 20 milliard comparisons: minutes, not a second.
    codec = server(Limits(max_head_bytes=2**20))
    for index in range(len(wire)):
        codec.receive(wire[index : index + 1])
    assert codec.receive(None)[-1] is not None


def test_ten_thousand_pipelined_requests_in_one_read() -> None:
    codec = server(Limits(max_head_bytes=2**20))
    frames = codec.receive(GET * 10_000)
    count = 0
    while frames:
        count += 1
        codec.send(Head(1, response(), b"", end=True))
        frames = codec.receive(b"")
    assert count == 10_000


def test_other_frames() -> None:
    codec = asked()
    assert codec.send(Reply(b"raw")) == b"raw"
    assert codec.send(Credit()) == b""
