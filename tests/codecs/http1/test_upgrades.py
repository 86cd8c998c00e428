"""Upgrades on both sides: a wish that the answer decides, and nothing in it that two readers may take differently."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest

from tests.codecs.http1.driving import (
    GET,
    asked,
    client,
    cuts,
    events,
    possible,
    read,
    request,
    response,
    server,
)
from xproxy.codecs.http1.client import ClientCodec
from xproxy.codecs.http1.plugin import PLUGIN
from xproxy.codecs.http1.server import ServerCodec
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Data, Frame, Head, Violation
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead, ResponseHead, Target
from xproxy.model.status import Status
from xproxy.model.traits import Role

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
FIELDS = (
    f"Sec-WebSocket-Key: {KEY}\r\n"
    "Sec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: chat\r\n"
    "Sec-WebSocket-Extensions: permessage-deflate\r\n"
)
WISH = (
    f"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{FIELDS}\r\n"
).encode()
GRANT = response(101, [("Sec-WebSocket-Accept", ACCEPT), ("Sec-WebSocket-Protocol", "chat")])
REFUSED = response(403, [("X-Why", "not you")])
VECTORS = sorted((Path(__file__).parent / "vectors" / "websocket").glob("*.json"))


def wish(wire: bytes) -> str | None:
    """Return the upgrade of the first request in ``wire``; None if there is no good request."""
    frames = server().receive(wire)
    if not frames or not isinstance(frames[0], Head):
        return None
    message = frames[0].message
    assert isinstance(message, RequestHead)
    target: Target = message.extra
    assert frames[0].end is not (target.upgrade != "")
    return target.upgrade


def upgrade(upgrade: str = "websocket", headers: tuple[tuple[str, str], ...] = ()) -> RequestHead:
    """Make a request for an upgrade that has no handshake of its own."""
    return attrs.evolve(
        request("GET", "/chat", headers), extra=Target(path="/chat", upgrade=upgrade)
    )


def with_key() -> ClientCodec:
    """Open a client that asked for a WebSocket with the key of the RFC."""
    codec = client()
    codec.send(
        Head(1, upgrade(headers=(("Sec-WebSocket-Key", KEY), ("Sec-WebSocket-Version", "13"))))
    )
    return codec


def switching(*lines: str, accept: str = ACCEPT) -> bytes:
    """Write a 101."""
    head = lines or ("Connection: Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Accept: {accept}")
    return "\r\n".join(("HTTP/1.1 101 Switching Protocols", *head, "", "")).encode()


# ---- the wish


def test_a_wish_is_a_head_that_goes_on() -> None:
    for pieces in cuts(WISH):
        ((kind, message),) = read(server(), pieces)
        assert kind == "head"
        assert isinstance(message, RequestHead)
        assert message.method == "GET"
        assert message.tunnel
        assert message.extra == Target(path="/chat", upgrade="websocket")
        assert "Upgrade" not in message.headers
        assert message.headers["Sec-WebSocket-Key"] == KEY


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Connection: Upgrade", "Connection: keep-alive, UPGRADE"),
        ("Connection: Upgrade\r\n", "Connection: keep-alive\r\nConnection: upgrade\r\n"),
        ("Upgrade: websocket", "upgrade: WebSocket"),
        ("/chat HTTP/1.1", "http://a/chat HTTP/1.1"),
        ("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n"),
        ("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n"),
    ],
)
def test_what_is_a_wish_too(old: str, new: str) -> None:
    assert wish(WISH.decode().replace(old, new).encode()) == "websocket"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("HTTP/1.1", "HTTP/1.0"),
        ("GET", "POST"),
        ("GET", "HEAD"),
        ("GET", "OPTIONS"),
        ("Connection: Upgrade", "Connection: keep-alive"),
        ("Connection: Upgrade\r\n", ""),
        ("Connection: Upgrade", "X: Upgrade"),
        ("Connection: Upgrade", "Connection: Upgrade, Sec-WebSocket-Key"),
        ("Upgrade: websocket", "Upgrade: h2c"),
        ("Upgrade: websocket", "Upgrade: websocket, h2c"),
        ("Upgrade: websocket", "Upgrade: h2c\r\nUpgrade: websocket"),
        ("Upgrade: websocket", "Upgrade: websocket\r\nUpgrade: websocket"),
        ("Upgrade: websocket\r\n", ""),
        ("Version: 13", "Version: 8"),
        (f"Key: {KEY}", f"Key: {KEY}\r\nSec-WebSocket-Key: {KEY}"),
        (f"Key: {KEY}", "Key: short"),
    ],
)
def test_what_is_no_wish_is_an_ordinary_request(old: str, new: str) -> None:
    wire = WISH.decode().replace(old, new, 1).encode()
    assert wish(wire) == ""
    written = client().send(server().receive(wire)[0]).lower()
    assert b"upgrade" not in written.replace(b"x: upgrade\r\n", b"")


def test_a_wish_with_a_body_is_an_ordinary_request_with_that_body() -> None:
    for framing, body in (
        ("Content-Length: 5", b"hello"),
        ("Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n"),
    ):
        wire = WISH.replace(b"\r\n\r\n", f"\r\n{framing}\r\n\r\n".encode()) + body
        found = read(server(), [wire])
        assert found[1:] == [("body", b"hello"), ("end",)]
        message = found[0][1]
        assert isinstance(message, RequestHead)
        assert not message.tunnel


# ---- the server's answer


def test_a_grant_opens_the_tunnel_for_what_came_with_the_request() -> None:
    codec = asked(WISH + b"early")
    assert codec.receive(b" bird") == []
    sent = codec.send(Head(1, GRANT, b"hello"))
    head, _, rest = sent.partition(b"\r\n\r\n")
    assert rest == b"hello"
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 101 Switching Protocols"
    assert sorted(lines[1:]) == [
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {ACCEPT}",
        "Sec-WebSocket-Protocol: chat",
        "Upgrade: websocket",
    ]
    assert codec.receive(b"") == [Data(1, b"early bird")]
    assert codec.transparent
    assert codec.receive(GET) == [Data(1, GET)]
    assert codec.send(Data(1, b"x", True)) == b"x"
    assert codec.receive(None) == [Data(1, b"", True)]
    assert codec.receive(GET) == []


def test_the_accept_value_is_that_of_this_hop() -> None:
    """What came from elsewhere (another key, or none as over HTTP/2) does not."""
    for headers in ([], [("sec-websocket-accept", "x" * 28)]):
        sent = asked(WISH).send(Head(1, response(101, headers)))
        assert sent.lower().count(b"sec-websocket-accept") == 1
        assert f"Sec-WebSocket-Accept: {ACCEPT}\r\n".encode() in sent


def test_an_upgrade_without_a_handshake_is_granted_without_one() -> None:
    wire = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: Custom\r\n\r\n"
    assert asked(wire).send(Head(1, response(101))) == (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: custom\r\n\r\n"
    )


@pytest.mark.parametrize("streaming", [False, True])
def test_without_a_grant_what_followed_are_requests(streaming: bool) -> None:
    codec = asked(WISH + GET)
    if streaming:
        sent = codec.send(Head(1, REFUSED)) + codec.send(Data(1, b"no", True))
        assert b"Transfer-Encoding: chunked\r\n" in sent
    else:
        sent = codec.send(Head(1, REFUSED, b"no", end=True))
        assert sent.endswith(b"Content-Length: 2\r\n\r\nno")
    assert b"close" not in sent
    assert b"pgrade" not in sent
    ((kind, message), end) = events(codec.receive(b""))
    assert (kind, end) == ("head", ("end",))
    assert isinstance(message, RequestHead)
    assert not message.tunnel
    assert possible(codec)


def test_interim_answers_decide_nothing() -> None:
    codec = asked(WISH + b"x")
    assert codec.send(Head(1, response(103), interim=True)).startswith(b"HTTP/1.1 103")
    assert codec.receive(b"y") == []
    assert b" 101 " in codec.send(Head(1, GRANT))
    assert codec.receive(b"") == [Data(1, b"xy")]


def test_nobody_is_switched_who_did_not_ask() -> None:
    for codec in (asked(GET), asked(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")):
        with pytest.raises(LocalProtocolError):
            codec.send(Head(1, GRANT))
    with pytest.raises(LocalProtocolError):
        asked(WISH).send(Head(1, GRANT, interim=True))


def test_bytes_before_the_grant_are_bounded() -> None:
    codec = asked(WISH)
    frames: list[Frame] = []
    for _ in range(8):
        frames += codec.receive(bytes(64 * 1024))
    (violation,) = frames
    assert isinstance(violation, Violation)
    assert violation.farewell.startswith(b"HTTP/1.1 400 ")


def test_the_end_of_input_before_the_grant_is_the_tunnels() -> None:
    codec = asked(WISH + b"all")
    assert codec.receive(None) == []
    codec.send(Head(1, GRANT))
    assert codec.receive(b"") == [Data(1, b"all", True)]


# ---- the client


def test_the_wish_is_written_with_a_handshake() -> None:
    sent = client().send(Head(1, upgrade(headers=(("Origin", "x"), ("Content-Length", "3")))))
    head = sent.decode()
    assert head.startswith("GET /chat HTTP/1.1\r\nHost: a\r\nOrigin: x\r\n")
    assert "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" in head
    assert "\r\nSec-WebSocket-Version: 13\r\n" in head
    assert "ontent-" not in head
    assert wish(sent) == "websocket"
    assert sent == client().send(
        Head(1, upgrade(headers=(("Origin", "x"), ("Content-Length", "3"))))
    )


def test_the_clients_own_handshake_passes_unchanged() -> None:
    sent = client().send(Head(1, server().receive(WISH)[0].message))  # type: ignore[union-attr]  # a head
    for line in FIELDS.split("\r\n"):
        assert line.encode() in sent


@pytest.mark.parametrize("name", ["websocket", "custom"])
def test_a_101_is_where_the_tunnel_begins(name: str) -> None:
    wire = switching(
        "connection: keep-alive, upgrade",
        f"upgrade: {name.upper()}",
        *([f"sec-websocket-accept: {ACCEPT}"] if name == "websocket" else []),
        "Content-Length: 5",
    )
    for pieces in cuts(b"HTTP/1.1 103 Early Hints\r\n\r\n" + wire + b"HTTP/1.1 200 OK\r\n\r\n"):
        codec = with_key()
        if name == "custom":
            codec = client()
            codec.send(Head(1, upgrade("custom")))
        (interim, _), (kind, message), body = read(codec, pieces)
        assert (interim, kind) == ("interim", "head")
        assert isinstance(message, ResponseHead)
        assert (message.status, message.native_status) == (Status.OK, 101)
        assert "Content-Length" not in message.headers
        assert "Upgrade" not in message.headers
        assert body == ("body", b"HTTP/1.1 200 OK\r\n\r\n")
        assert codec.send(Data(1, b"raw")) == b"raw"
        assert codec.transparent


@pytest.mark.parametrize(
    "wire",
    [
        switching("Connection: Upgrade", "Upgrade: h2c"),
        switching("Connection: Upgrade", "Upgrade: websocket, h2c"),
        switching("Connection: Upgrade", "Upgrade: websocket"),
        switching("Upgrade: websocket", f"Sec-WebSocket-Accept: {ACCEPT}"),
        switching("Connection: Upgrade", f"Sec-WebSocket-Accept: {ACCEPT}"),
        switching(accept="x" * 27 + "="),
        switching(accept=ACCEPT.lower()),
        switching(accept=f"{ACCEPT}\r\nSec-WebSocket-Accept: {ACCEPT}"),
        switching().replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
def test_a_101_to_something_else_is_a_violation(wire: bytes) -> None:
    for pieces in cuts(wire):
        (violation,) = read(with_key(), pieces)
        assert violation[0] == "violation"


def test_a_101_that_nobody_asked_for_is_a_violation() -> None:
    for method, path in (("GET", "/"), ("CONNECT", "")):
        codec = client()
        codec.send(Head(1, request(method, path, service="a:1"), b"", end=method == "GET"))
        (violation,) = codec.receive(switching())
        assert isinstance(violation, Violation)


def test_nothing_is_sent_before_the_answer() -> None:
    codec = with_key()
    with pytest.raises(LocalProtocolError):
        codec.send(Data(1, b"x"))


def test_without_a_grant_the_connection_serves_the_next_request() -> None:
    codec = with_key()
    found = read(codec, [b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno"])
    assert found[1:] == [("body", b"no"), ("end",)]
    assert codec.send(Head(1, request(), b"", end=True)).startswith(b"GET / ")
    (violation,) = codec.receive(switching())
    assert isinstance(violation, Violation)


@pytest.mark.parametrize(
    "frame",
    [
        Head(1, upgrade(), b"body"),
        Head(1, upgrade(), b"", end=True),
        Head(1, attrs.evolve(upgrade(), method="POST")),
        Head(1, upgrade("a b")),
        Head(1, upgrade("WebSocket")),
        Head(1, upgrade("websocket", (("Sec-WebSocket-Key", "short"),))),
        Head(1, upgrade("websocket", (("Sec-WebSocket-Key", KEY), ("Sec-WebSocket-Key", KEY)))),
    ],
)
def test_what_cannot_be_asked_for(frame: Frame) -> None:
    codec = client()
    with pytest.raises(LocalProtocolError):
        codec.send(frame)
    assert codec.send(Head(1, request(), b"", end=True))


# ---- recorded, and moved


def _streams(path: Path) -> tuple[bytes, bytes]:
    (connection,) = json.loads(path.read_text())["connections"]
    return tuple(  # type: ignore[return-value]  # two of them
        b"".join(
            bytes.fromhex(one["hex"])
            for one in connection["segments"]
            if one["dir"] == way and "hex" in one
        )
        for way in ("c2s", "s2c")
    )


@pytest.mark.parametrize("path", VECTORS, ids=[path.stem for path in VECTORS])
def test_recorded_websockets_pass_through_both_codecs(path: Path) -> None:
    """PyPI websockets 17.4 with itself: what comes out at either end is what went in."""
    asking, answering = _streams(path)
    up, down = asked_by(asking), client()
    sent = b"".join(down.send(frame) for frame in up[1])
    assert wish(sent) == "websocket"
    frames = down.receive(answering)
    back = b"".join(up[0].send(frame) for frame in frames)
    head, _, rest = back.partition(b"\r\n\r\n")
    expected, _, body = answering.partition(b"\r\n\r\n")
    assert rest == body
    assert sorted(head.split(b"\r\n")) == sorted(expected.split(b"\r\n"))
    tunnel = b"".join(down.send(frame) for frame in up[0].receive(b""))
    assert tunnel == asking.partition(b"\r\n\r\n")[2]


def asked_by(wire: bytes) -> tuple[ServerCodec, list[Frame]]:
    codec = server()
    return codec, list(codec.receive(wire))


def test_both_sides_are_moved_at_every_byte() -> None:
    wire = WISH + b"early"
    for offset in range(len(wire) + 1):
        codec = server()
        before = codec.receive(wire[:offset])
        moved = PLUGIN.restore(codec.snapshot(), Role.SERVER, DEFAULT_LIMITS)
        assert isinstance(moved, ServerCodec)
        assert len([*before, *moved.receive(wire[offset:])]) == 1
        again = PLUGIN.restore(moved.snapshot(), Role.SERVER, DEFAULT_LIMITS)
        assert isinstance(again, ServerCodec)
        assert f"Accept: {ACCEPT}\r\n".encode() in again.send(Head(1, GRANT))
        last = PLUGIN.restore(again.snapshot(), Role.SERVER, DEFAULT_LIMITS)
        assert last.receive(b"") == [Data(1, b"early")]
    wire = switching() + b"early"
    expected = read(with_key(), [wire])
    for offset in range(len(wire) + 1):
        asking = with_key()
        before = asking.receive(wire[:offset])
        there = PLUGIN.restore(asking.snapshot(), Role.CLIENT, DEFAULT_LIMITS)
        assert events([*before, *there.receive(wire[offset:])]) == expected
