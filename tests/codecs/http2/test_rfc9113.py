"""RFC 9113, what a receiver MUST do: each rule with its section, in both roles where both have it.

``docs/protocols/http2.md`` lists the rules with the names of these cases.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.codecs.http2.driving import (
    GET,
    OK,
    RESPONSE,
    Hand,
    answered,
    asked,
    closed,
    crime,
    data,
    half_closed,
    heads,
    opened,
    parse,
    replies,
    resets,
    serving,
    uploading,
    waiting,
)
from xproxy.codecs.http2.limits import MAX_WINDOW
from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.wire import (
    CONTINUATION,
    DATA,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    Setting,
    frame,
    goaway,
    ping,
    rst_stream,
    settings,
    window_update,
)
from xproxy.model.frames import Head, Reset, Violation
from xproxy.model.status import Status

Wire = Callable[[Hand], bytes]


BOTH = (serving, waiting)

CONNECTION_ERRORS: list[tuple[str, Callable[[], Hand], Wire, ErrorCode]] = []


def _rule(
    name: str,
    wire: Wire | bytes,
    code: ErrorCode,
    *states: Callable[[], Hand],
) -> None:
    def fixed(_: Hand) -> bytes:
        assert isinstance(wire, bytes)
        return wire

    CONNECTION_ERRORS.extend(
        (f"{name} ({state.__name__})", state, fixed if isinstance(wire, bytes) else wire, code)
        for state in states or BOTH
    )


P, F, S = ErrorCode.PROTOCOL_ERROR, ErrorCode.FRAME_SIZE_ERROR, ErrorCode.STREAM_CLOSED
C, W, E = (
    ErrorCode.COMPRESSION_ERROR,
    ErrorCode.FLOW_CONTROL_ERROR,
    ErrorCode.ENHANCE_YOUR_CALM,
)

_rule("4.2 a frame above MAX_FRAME_SIZE", b"\x00\x40\x01\x00\x00\x00\x00\x00\x01", F)
_rule("4.3 a header block that cannot be decompressed", frame(HEADERS, 5, 1, b"\xbf\xff\xff"), C)
_rule(
    "4.3 and 6.2 a frame of another kind within a header block",
    frame(HEADERS, 1, 1, b"\x82") + ping(bytes(8)),
    P,
)
_rule(
    "4.3 and 6.10 a CONTINUATION of another stream within a header block",
    frame(HEADERS, 1, 1, b"\x82") + frame(CONTINUATION, 4, 3, b""),
    P,
)
_rule(
    "5.5 an unknown frame within a header block",
    frame(HEADERS, 1, 1, b"\x82") + frame(0x42, 0, 1, b""),
    P,
)
_rule("5.1 idle: DATA", data(9, b"x"), P)
_rule("5.1 idle: RST_STREAM", rst_stream(9, 8), P)
_rule("5.1 idle: WINDOW_UPDATE", window_update(9, 1), P)
_rule("5.1 idle: HEADERS from a server", lambda h: h.head(9, OK), P, waiting)
_rule("5.1 closed: DATA after both ended", data(1, b"x"), S, closed, answered)
_rule("5.1 closed: HEADERS after both ended", lambda h: h.head(1, GET), S, closed)
_rule("5.1 closed: HEADERS after both ended", lambda h: h.head(1, OK), S, answered)
_rule(
    "5.1 closed: DATA after the peer's RST_STREAM",
    rst_stream(1, 8) + data(1, b"x"),
    S,
    opened,
    uploading,
)
_rule("5.1.1 a client's stream of an even number", lambda h: h.head(2, GET), P, serving)
_rule(
    "5.1.1 a stream below one that was opened",
    lambda h: h.head(5, GET) + h.head(3, GET),
    P,
    serving,
)
_rule("5.1.1 a stream that a server opens", lambda h: h.head(2, OK), P, waiting)
_rule("6.1 DATA on stream 0", data(0, b"x"), P)
_rule("6.1 padding as long as its frame", frame(DATA, PADDED, 1, b"\x04abc"), P, opened)
_rule("6.1 padding longer than its frame", frame(DATA, PADDED, 1, b"\x09abc"), P, opened)
_rule("6.1 padding without its length", frame(DATA, PADDED, 1, b""), F, opened)
_rule("6.2 HEADERS on stream 0", frame(HEADERS, 5, 0, b"\x82"), P)
_rule("6.2 padding longer than the block", frame(HEADERS, 5 | PADDED, 1, b"\x05\x82"), P)
_rule("6.2 a priority that is cut off", frame(HEADERS, 5 | WITH_PRIORITY, 1, b"\x00"), F)
_rule("6.3 PRIORITY on stream 0", frame(PRIORITY, 0, 0, bytes(5)), P)
_rule("6.4 RST_STREAM on stream 0", rst_stream(0, 8), P)
_rule("6.4 RST_STREAM that is not 4 bytes", frame(RST_STREAM, 0, 1, bytes(5)), F)
_rule("6.5 SETTINGS on a stream", frame(SETTINGS, 0, 1, b""), P)
_rule("6.5 SETTINGS that is not sixes", frame(SETTINGS, 0, 0, bytes(5)), F)
_rule("6.5 an acknowledgement with a payload", frame(SETTINGS, 1, 0, bytes(6)), F)
_rule("6.5.2 ENABLE_PUSH 2", settings(((Setting.ENABLE_PUSH, 2),)), P)
_rule("6.5.2 ENABLE_PUSH by a server", settings(((Setting.ENABLE_PUSH, 1),)), P, waiting)
_rule("6.5.2 INITIAL_WINDOW_SIZE 2^31", settings(((Setting.INITIAL_WINDOW_SIZE, 2**31),)), W)
_rule("6.5.2 MAX_FRAME_SIZE 16383", settings(((Setting.MAX_FRAME_SIZE, 16383),)), P)
_rule("6.5.2 MAX_FRAME_SIZE 2^24", settings(((Setting.MAX_FRAME_SIZE, 2**24),)), P)
_rule("RFC 8441 3 ENABLE_CONNECT_PROTOCOL 2", settings(((8, 2),)), P)
_rule("RFC 8441 3 ENABLE_CONNECT_PROTOCOL taken back", settings(((8, 1),)) + settings(((8, 0),)), P)
_rule("6.6 and 8.4 PUSH_PROMISE", frame(PUSH_PROMISE, 4, 1, bytes(4) + b"\x82"), P)
_rule("6.7 PING on a stream", frame(PING, 0, 1, bytes(8)), P)
_rule("6.7 PING that is not 8 bytes", frame(PING, 0, 0, bytes(7)), F)
_rule("6.8 GOAWAY on a stream", frame(GOAWAY, 0, 1, bytes(8)), P)
_rule("6.8 GOAWAY that is cut off", frame(GOAWAY, 0, 0, bytes(7)), F)
_rule("6.8 a GOAWAY that takes back another", goaway(1, 0) + goaway(3, 0), P)
_rule("6.9 WINDOW_UPDATE that is not 4 bytes", frame(WINDOW_UPDATE, 0, 0, bytes(3)), F)
_rule("6.9 WINDOW_UPDATE of nothing", window_update(0, 0), P)
_rule("6.9.1 a connection's window above 2^31-1", window_update(0, MAX_WINDOW), W)
_rule(
    "6.9.2 INITIAL_WINDOW_SIZE that makes a window above 2^31-1",
    window_update(1, 2**30) + settings(((Setting.INITIAL_WINDOW_SIZE, MAX_WINDOW),)),
    W,
    opened,
    uploading,
)
_rule("6.10 CONTINUATION without HEADERS", frame(CONTINUATION, 4, 1, b"\x82"), P)
_rule(
    "6.10 CONTINUATION after the end of a block",
    lambda h: h.head(1, GET) + frame(CONTINUATION, 4, 1, b"\x82"),
    P,
    serving,
)


@pytest.mark.parametrize(
    ("state", "wire", "code"),
    [pytest.param(*rest, id=name) for name, *rest in CONNECTION_ERRORS],
)
def test_connection_errors(state: Callable[[], Hand], wire: Wire, code: ErrorCode) -> None:
    """§5.4.1: a GOAWAY with the code, and nothing after it."""
    hand = state()
    frames = hand.say(wire(hand))
    assert crime(frames) is code
    assert hand.codec.receive(b"x") == ()
    assert hand.codec.receive(None) == ()
    assert sum(isinstance(f, Violation) for f in hand.frames) == 1


STREAM_ERRORS: list[tuple[str, Callable[[], Hand], Wire, ErrorCode]] = [
    ("5.1 half-closed (remote): DATA", half_closed, lambda _: data(1, b"x"), S),
    ("5.1 half-closed (remote): HEADERS", half_closed, lambda h: h.head(1, GET), S),
    (
        "5.1 half-closed: a server's DATA after its end",
        uploading,
        lambda h: h.head(1, OK) + data(1, b"x"),
        S,
    ),
    ("6.3 PRIORITY that is not 5 bytes", opened, lambda _: frame(PRIORITY, 0, 1, bytes(4)), F),
    ("6.9 WINDOW_UPDATE of nothing", opened, lambda _: window_update(1, 0), P),
    ("6.9 WINDOW_UPDATE of nothing, client", uploading, lambda _: window_update(1, 0), P),
    ("6.9.1 a stream's window above 2^31-1", opened, lambda _: window_update(1, MAX_WINDOW), W),
    (
        "8.1 trailers that do not end the stream",
        opened,
        lambda h: h.head(1, (("x", "y"),), end=False),
        P,
    ),
    (
        "8.1 a second final head",
        waiting,
        lambda h: h.head(1, OK, end=False) + h.head(1, OK, end=False),
        P,
    ),
    ("8.1 DATA before a head", waiting, lambda _: data(1, b"x"), P),
    ("8.1 an interim response that ends", waiting, lambda h: h.head(1, ((":status", "103"),)), P),
    ("8.1 a pseudo-field in trailers", opened, lambda h: h.head(1, GET), P),
    ("8.1 :status in trailers", waiting, lambda h: h.head(1, OK, end=False) + h.head(1, OK), P),
    ("8.6 status 101", waiting, lambda h: h.head(1, ((":status", "101"),), end=False), P),
    ("8.3.2 no :status", waiting, lambda h: h.head(1, (("x", "y"),)), P),
    ("8.3.2 a malformed :status", waiting, lambda h: h.head(1, ((":status", "20"),)), P),
    ("8.3.2 a request's pseudo-field", waiting, lambda h: h.head(1, (*OK, (":path", "/"))), P),
]


@pytest.mark.parametrize(
    ("state", "wire", "code"),
    [pytest.param(*rest, id=name) for name, *rest in STREAM_ERRORS],
)
def test_stream_errors(state: Callable[[], Hand], wire: Wire, code: ErrorCode) -> None:
    """§5.4.2: RST_STREAM for the peer, Reset for the driver, and the connection goes on."""
    hand = state()
    frames = hand.say(wire(hand))
    assert crime(frames) is None
    assert resets(frames) == {1: code}
    assert [f.stream_id for f in frames if isinstance(f, Reset)] == [1]
    if state is opened:
        assert hand.codec.send(Head(1, RESPONSE)) == b""
    assert parse(replies(hand.say(ping(b"12345678"))))[0].payload == b"12345678"


def _request(*pairs: tuple[str, str], base: tuple[tuple[str, str], ...] = tuple(GET)) -> Wire:
    return lambda hand: hand.head(1, (*base, *pairs))


def _without(name: str) -> Wire:
    return lambda hand: hand.head(1, [pair for pair in GET if pair[0] != name])


def _with(name: str, value: str) -> Wire:
    return lambda hand: hand.head(1, [(n, value if n == name else v) for n, v in GET])


CONNECT = ((":method", "CONNECT"), (":authority", "a.example:443"))

MALFORMED: list[tuple[str, Wire]] = [
    ("8.2.1 upper case in a name", _request(("X-A", "1"))),
    ("8.2.1 a space in a name", _request(("x a", "1"))),
    ("8.2.1 a colon in a name", _request(("x:a", "1"))),
    ("8.2.1 a control in a name", _request(("x\x01", "1"))),
    ("8.2.1 a byte above 7E in a name", _request(("xé", "1"))),
    ("8.2.1 an empty name", _request(("", "1"))),
    ("8.2.1 NUL in a value", _request(("x", "a\0b"))),
    ("8.2.1 LF in a value", _request(("x", "a\nb"))),
    ("8.2.1 CR in a value", _request(("x", "a\rb"))),
    ("8.2.1 a space before a value", _request(("x", " a"))),
    ("8.2.1 a tab behind a value", _request(("x", "a\t"))),
    ("8.2.2 connection", _request(("connection", "close"))),
    ("8.2.2 keep-alive", _request(("keep-alive", "1"))),
    ("8.2.2 proxy-connection", _request(("proxy-connection", "close"))),
    ("8.2.2 transfer-encoding", _request(("transfer-encoding", "chunked"))),
    ("8.2.2 upgrade", _request(("upgrade", "h2c"))),
    ("8.2.2 te other than trailers", _request(("te", "gzip"))),
    ("8.3 a pseudo-field after a regular one", lambda h: h.head(1, (*GET[:3], ("x", "1"), GET[3]))),
    ("8.3 an unknown pseudo-field", lambda h: h.head(1, (*GET, (":x", "1")))),
    ("8.3 a response's pseudo-field", lambda h: h.head(1, (*GET, (":status", "200")))),
    ("8.3 a pseudo-field twice", lambda h: h.head(1, (*GET, GET[2]))),
    ("8.3.1 no :method", _without(":method")),
    ("8.3.1 no :scheme", _without(":scheme")),
    ("8.3.1 no :path", _without(":path")),
    ("8.3.1 no authority at all", _without(":authority")),
    ("8.3.1 an empty :path", _with(":path", "")),
    ("8.3.1 a :path without its slash", _with(":path", "x")),
    ("8.3.1 a space in :path", _with(":path", "/a b")),
    ("8.3.1 :path * with GET", _with(":path", "*")),
    ("8.3.1 a malformed :method", _with(":method", "GE T")),
    ("8.3.1 an empty :method", _with(":method", "")),
    ("8.3.1 a malformed :scheme", _with(":scheme", "1http")),
    ("8.3.1 user information in :authority", _with(":authority", "u@a.example")),
    ("8.3.1 host that differs from :authority", _request(("host", "b.example"))),
    ("8.1.1 content-length twice", _request(("content-length", "0"), ("content-length", "0"))),
    ("8.1.1 content-length that is no number", _request(("content-length", "+1"))),
    ("8.1.1 content-length without a body", _request(("content-length", "1"))),
    ("8.5 CONNECT with :path", lambda h: h.head(1, (*CONNECT, (":path", "/")))),
    ("8.5 CONNECT with :scheme", lambda h: h.head(1, (*CONNECT, (":scheme", "http")))),
    ("8.5 CONNECT without :authority", lambda h: h.head(1, CONNECT[:1])),
    ("8.5 CONNECT without a port", lambda h: h.head(1, (CONNECT[0], (":authority", "a.example")))),
    (
        "RFC 8441 4 :protocol without CONNECT",
        lambda h: h.head(1, (*GET, (":protocol", "websocket"))),
    ),
]


@pytest.mark.parametrize("wire", [pytest.param(w, id=name) for name, w in MALFORMED])
def test_malformed_requests(wire: Wire) -> None:
    """§8.1.1: a stream error of type PROTOCOL_ERROR; nobody behind the codec learns of the request."""
    hand = serving()
    frames = hand.say(wire(hand))
    assert resets(frames) == {1: ErrorCode.PROTOCOL_ERROR}
    assert not [f for f in frames if isinstance(f, Head | Reset)]
    # §4.3: the tables go on, so that the next request is read right.
    (head,) = heads(hand.ask(3, (*GET, ("x-b", "2"))))
    assert head.message.headers["x-b"] == "2"


MALFORMED_FIELDS = [case for case in MALFORMED if case[0].startswith(("8.2.1", "8.2.2"))]


@pytest.mark.parametrize("wire", [pytest.param(w, id=name) for name, w in MALFORMED_FIELDS])
def test_malformed_responses(wire: Wire) -> None:
    """§8.1.1: as for requests; who waits for the answer learns that there will be none."""
    hand = asked()
    request = _Recorder()
    wire(request)  # type: ignore[arg-type]  # a hand that only keeps the fields
    frames = hand.say(hand.head(1, (*OK, *request.pairs[len(GET) :])))
    assert resets(frames) == {1: ErrorCode.PROTOCOL_ERROR}
    assert [f for f in frames if isinstance(f, Reset)] == [Reset(1, Status.INTERNAL)]


class _Recorder:
    pairs: tuple[tuple[str, str], ...] = ()

    def head(self, _stream_id: int, pairs: tuple[tuple[str, str], ...]) -> bytes:
        self.pairs = pairs
        return b""
