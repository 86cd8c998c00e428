"""Moved in the middle of anything, both roles go on as if nothing had been; forged states are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import msgpack
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
    possible,
    request,
    response,
    server,
)
from xproxy.codecs.api import SupportsSnapshot
from xproxy.codecs.http1.client import ClientCodec
from xproxy.codecs.http1.plugin import PLUGIN
from xproxy.codecs.http1.server import ServerCodec
from xproxy.codecs.http1.snapshot import Snapshot
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Data, Frame, Head, Trailers
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS, Limits
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role

OK = response()
CONNECT = b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"
WEBSOCKET = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
CHUNKED = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def moved(codec: Http1, limits: Limits = DEFAULT_LIMITS) -> Http1:
    restored = PLUGIN.restore(codec.snapshot(), codec.role, limits)
    assert isinstance(restored, ServerCodec | ClientCodec)
    assert type(restored) is type(codec)
    assert restored.snapshot() == codec.snapshot()
    return restored


SERVER_SCRIPTS: dict[str, list[bytes | Frame | None]] = {
    "sized": [
        GET,
        Head(1, response(200, [("Content-Length", "4")]), b"ab"),
        Data(1, b"cd", end=True),
        GET,
    ],
    "chunked": [GET, Head(1, OK, b"ab"), Data(1, b"c"), Trailers(1, Headers([("X", "1")])), GET],
    "until-close": [
        b"GET / HTTP/1.0\r\n\r\n",
        Head(1, OK, b"ab"),
        Data(1, b"c", end=True),
        b"",
        GET,
    ],
    "no-body": [GET.replace(b"GET", b"HEAD"), Head(1, OK, b"ab"), Data(1, b"c", end=True), GET],
    "pipelined": [
        GET + GET + GET[:9],
        Head(1, OK, b"", end=True),
        b"",
        GET[9:],
        Head(1, OK, b"", end=True),
        b"",
    ],
    "duplex": [
        CHUNKED + b"3\r\na",
        Head(1, OK),
        b"bc\r\n",
        Data(1, b"x"),
        b"0\r\nX: 1",
        b"\r\n\r\n",
        Data(1, b"", end=True),
        b"",
        GET,
    ],
    "extensions": [CHUNKED, b"1;" + b"e" * 200, b"\r\nx\r\n1;", b"e\r\nx\r", b"\n0\r\n\r", b"\n"],
    "early": [CHUNKED, Head(1, OK, b"no", end=True), b"3\r\nabc\r\n", b""],
    "violation": [CHUNKED, Head(1, OK), b"zz\r\n", Data(1, b"x"), Data(1, b"", end=True), GET],
    "empty-lines": [b"\r\n", b"\r", b"\n", GET, Head(1, OK, b"", end=True), b"\r\n\r\n\r\n"],
    "tunnel": [
        CONNECT + b"x",
        b"y",
        Head(1, OK),
        b"",
        Data(1, b"z"),
        b"w",
        None,
        Data(1, b"", end=True),
    ],
    "end": [GET + GET, None, Head(1, OK, b"", end=True), b"", Head(1, OK, b"", end=True), b""],
}

R200 = b"HTTP/1.1 200 OK\r\n"
CLIENT_SCRIPTS: dict[str, list[bytes | Frame | None]] = {
    "sized": [
        Head(1, request(), b"", end=True),
        R200,
        b"Content-Length: 3\r\n\r\na",
        b"b",
        b"c",
        Head(1, request(), b"", end=True),
    ],
    "interim": [
        Head(1, request("PUT")),
        b"HTTP/1.1 100 X\r\n",
        b"\r\n" + R200,
        Data(1, b"x", end=True),
        b"Content-Length: 0\r\n\r\n",
    ],
    "declared": [
        Head(1, request("PUT", headers=[("Content-Length", "3")]), b"a"),
        Data(1, b"bc", end=True),
        R200 + b"\r\n",
        b"x",
        None,
    ],
    "head": [
        Head(1, request("HEAD"), b"", end=True),
        R200 + b"Content-Length: 3\r\n",
        b"\r\n",
        None,
    ],
    "early": [
        Head(1, request("PUT"), b"a"),
        R200 + b"Content-Length: 0\r\n\r\n",
        Data(1, b"x", end=True),
    ],
    "tunnel": [
        Head(1, request("CONNECT", "", service="a:1")),
        R200,
        b"\r\nx",
        Data(1, b"y"),
        b"z",
        None,
    ],
    "split": [Head(1, request(), b"", end=True), R200 + b"Content-Length: 0\r\n\r\n", b"x", b"y"],
}


def run(codec: Http1, script: list[bytes | Frame | None], *, moving: bool) -> list[object]:
    """Play a script; return what came of it."""
    seen: list[object] = []
    for step in script:
        if moving:
            codec = moved(codec)
        if step is None or isinstance(step, bytes):
            seen.append(events(codec.receive(step)))
        else:
            seen.append(codec.send(step))
        assert possible(codec)
    return seen


@pytest.mark.parametrize("script", SERVER_SCRIPTS.values(), ids=SERVER_SCRIPTS.keys())
def test_a_server_moved_at_every_step_goes_on(script: list[bytes | Frame | None]) -> None:
    assert run(server(), script, moving=True) == run(server(), script, moving=False)


@pytest.mark.parametrize("script", CLIENT_SCRIPTS.values(), ids=CLIENT_SCRIPTS.keys())
def test_a_client_moved_at_every_step_goes_on(script: list[bytes | Frame | None]) -> None:
    assert run(client(), script, moving=True) == run(client(), script, moving=False)


def test_draining_goes_along() -> None:
    codec = asked()
    codec.goaway()
    assert b"\r\nConnection: close\r\n" in moved(codec).send(Head(1, OK, b"", end=True))


def test_codecs_say_that_they_can_be_moved() -> None:
    assert isinstance(server(), SupportsSnapshot)
    assert isinstance(client(), SupportsSnapshot)


# Any: what a forger writes
def forged(of: Http1 | None = None, **changes: Any) -> bytes:
    """Return the state of a codec, an idle server if none is given, with some fields changed."""
    name, version, fields = msgpack.unpackb((of or server()).snapshot())
    name, version = changes.pop("codec", name), changes.pop("version", version)
    packed: bytes = msgpack.packb([name, version, {**fields, **changes}])
    return packed


def test_the_forger_works() -> None:
    assert forged() == server().snapshot()
    assert PLUGIN.restore(forged(buffer=GET[:5]), Role.SERVER, DEFAULT_LIMITS).receive(GET[5:])


@pytest.mark.parametrize(
    "changes",
    [
        {"codec": "http2"},
        {"version": 1},
        {"version": True},
        {"role": "client"},
        {"reading": "nothing"},
        {"reading": None},
        {"reading": "idle"},
        {"writing": "head"},
        {"writing": "length", "owed": 3},
        {"flags": 128},
        {"upgrade": "websocket", "accept": "x" * 27 + "="},
        {"reading": "tunnel-asked", "writing": "head", "flags": 16},
        {"reading": "tunnel-asked", "writing": "head", "flags": 2, "upgrade": "x"},
        {"reading": "tunnel-asked", "writing": "head", "flags": 16, "upgrade": "a b"},
        {"reading": "tunnel-asked", "writing": "head", "flags": 16, "upgrade": "websocket"},
        {"reading": "tunnel-asked", "writing": "head", "flags": 16, "upgrade": "x", "accept": "y"},
        {"flags": -1},
        {"flags": True},
        {"draining": 1},
        {"blank_lines": 3},
        {"left": 1},
        {"left": -1},
        {"owed": 1},
        {"reading": "length", "writing": "head"},
        {"reading": "length", "writing": "head", "left": 2**63},
        {"reading": "chunked", "writing": "head"},
        {"reading": "chunked", "writing": "head", "phase": "done"},
        {"reading": "chunked", "writing": "head", "phase": "data"},
        {"reading": "chunked", "writing": "head", "phase": "size", "chunk_left": 1},
        {"reading": "chunked", "writing": "head", "phase": "size", "extensions": 16385},
        {"reading": "chunked", "writing": "head", "phase": "size", "blank_lines": 1},
        {"reading": "chunked", "writing": "head", "phase": "size", "buffer": b"x" * 300},
        {"reading": "chunked", "writing": "head", "phase": "data", "chunk_left": 1, "buffer": b"x"},
        {"reading": "ended", "writing": "idle", "buffer": b"x"},
        {"phase": "size"},
        {"extensions": 1},
        {"buffer": "text"},
        {"buffer": b"x" * (4 * 65536 + 256 * 1024 + 1)},
        {"phase": ""},
        {"phase": None},
        {"more": 1},
    ],
    ids=str,
)
# Any: as above
def test_a_state_no_server_can_be_in_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        PLUGIN.restore(forged(**changes), Role.SERVER, DEFAULT_LIMITS)


def test_flags_of_an_idle_client_are_refused() -> None:
    with pytest.raises(ValueError, match="flags"):
        PLUGIN.restore(forged(client(), flags=1), Role.CLIENT, DEFAULT_LIMITS)


def test_tighter_limits_hold_for_what_was_buffered() -> None:
    codec = server()
    codec.receive(GET + b"x" * 300 * 1024)
    with pytest.raises(ValueError, match="buffer"):
        PLUGIN.restore(codec.snapshot(), Role.SERVER, Limits(max_head_bytes=1024))


_STATES = [
    asked(GET + GET).snapshot(),
    asked(CHUNKED + b"1;e\r\nx\r\n5\r\nab").snapshot(),
    asked(CONNECT + b"x").snapshot(),
    asking().snapshot(),
]
_values: st.SearchStrategy[object] = (
    st.none()
    | st.booleans()
    | st.integers(-1, 2**64 - 1)
    | st.binary(max_size=9)
    | st.sampled_from(
        ["server", "client", "head", "length", "chunked", "tunnel", "size", "data", "done", ""]
    )
    | st.just([])
)


def _survives(state: bytes, role: Role) -> None:
    try:
        codec = PLUGIN.restore(state, role, DEFAULT_LIMITS)
    except ValueError:
        return
    assert isinstance(codec, ServerCodec | ClientCodec)
    for step in (b"\r\n", b"5\r\nabcde\r\n", R200 + b"\r\n", GET, None, b""):
        codec.receive(step)
        assert possible(codec)
    for frame in (
        Head(1, OK, b"x", end=True),
        Head(1, request(), b"", end=True),
        Data(1, b"", end=True),
    ):
        try:
            codec.send(frame)
        except LocalProtocolError:
            pass
        assert possible(codec)


@given(st.sampled_from(_STATES), st.sampled_from(Role), st.integers(0, 200), st.binary(max_size=3))
@settings(max_examples=300)
def test_bytes_changed_in_a_state(state: bytes, role: Role, place: int, patch: bytes) -> None:
    place %= len(state) + 1
    _survives(state[:place] + patch + state[place + len(patch) :], role)
    _survives(state[:place], role)


@given(
    st.sampled_from(_STATES),
    st.sampled_from(Role),
    st.dictionaries(st.sampled_from([a.name for a in attrs.fields(Snapshot)]), _values, max_size=4),
)
@settings(max_examples=400)
def test_fields_changed_in_a_state(state: bytes, role: Role, changes: dict[str, object]) -> None:
    name, version, fields = msgpack.unpackb(state)
    _survives(msgpack.packb([name, version, {**fields, **changes}]), role)


@given(st.binary(max_size=60), st.sampled_from(Role))
@settings(max_examples=200)
def test_garbage_is_refused(state: bytes, role: Role) -> None:
    with pytest.raises(ValueError):
        PLUGIN.restore(state, role, DEFAULT_LIMITS)


def test_one_read_beyond_what_is_held_back_can_be_moved() -> None:
    limits = attrs.evolve(DEFAULT_LIMITS, max_head_bytes=512)
    codec = PLUGIN.open(Role.SERVER, limits)
    get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    (first,) = codec.receive(get + get * 200)
    assert isinstance(first, Head)
    assert isinstance(codec, SupportsSnapshot)
    moved = PLUGIN.restore(codec.snapshot(), Role.SERVER, limits)
    moved.send(Head(1, ResponseHead(status=Status.OK, native_status=200), b"", True))
    (second,) = moved.receive(b"")
    assert isinstance(second, Head)


def answering() -> ServerCodec:
    codec = asked()
    codec.send(Head(1, response(200, [("Content-Length", "4")]), b"ab"))
    return codec


# A codec in some state, and its ``snapshot().hex()``: as it was when fields had places (version 2, by the last commit
# that wrote it), and as it is (version 3).
GOLDEN: list[tuple[Callable[[], Http1], str, str]] = [
    (
        server,
        "dc0011a5687474703102a6736572766572a468656164a469646c6500c2c2000000a00000c400a0a0",
        "93a568747470310382a4726f6c65a6736572766572a772656164696e67a468656164",
    ),
    (
        client,
        "dc0011a5687474703102a6636c69656e74a469646c65a469646c6500c2c2000000a00000c400a0a0",
        "93a568747470310381a4726f6c65a6636c69656e74",
    ),
    (
        asking,
        "dc0011a5687474703102a6636c69656e74a468656164a4646f6e6500c2c2000000a00000c400a0a0",
        "93a568747470310383a4726f6c65a6636c69656e74a772656164696e67a468656164a777726974696e67"
        "a4646f6e65",
    ),
    (
        lambda: asked(GET + GET[:9]),
        "dc0011a5687474703102a6736572766572a4646f6e65a46865616408c2c2000000a00000c409"
        "474554202f20485454a0a0",
        "93a568747470310385a4726f6c65a6736572766572a772656164696e67a4646f6e65a777726974696e67"
        "a468656164a5666c61677308a6627566666572c409474554202f20485454",
    ),
    (
        lambda: asked(CHUNKED + b"1;e\r\nx\r\n5\r\nab"),
        "dc0011a5687474703102a6736572766572a76368756e6b6564a46865616408c2c2000000a464617461"
        "0302c400a0a0",
        "93a568747470310387a4726f6c65a6736572766572a772656164696e67a76368756e6b6564a777726974"
        "696e67a468656164a5666c61677308a57068617365a464617461aa6368756e6b5f6c65667403aa657874"
        "656e73696f6e7302",
    ),
    (
        lambda: asked(WEBSOCKET),
        "dc0011a5687474703102a6736572766572ac74756e6e656c2d61736b6564a46865616418c2c2000000"
        "a00000c400a9776562736f636b6574bc733370504c4d426954786151396b59477a7a685a52624b2b784f6f3d",
        "93a568747470310386a4726f6c65a6736572766572a772656164696e67ac74756e6e656c2d61736b6564"
        "a777726974696e67a468656164a5666c61677318a775706772616465a9776562736f636b6574a6616363"
        "657074bc733370504c4d426954786151396b59477a7a685a52624b2b784f6f3d",
    ),
    (
        answering,
        "dc0011a5687474703102a6736572766572a4646f6e65a66c656e67746808c2c2000002a00000c400a0a0",
        "93a568747470310385a4726f6c65a6736572766572a772656164696e67a4646f6e65a777726974696e67"
        "a66c656e677468a5666c61677308a46f77656402",
    ),
]


@pytest.mark.parametrize(("make", "version_2", "version_3"), GOLDEN, ids=lambda one: str(one)[-40:])
def test_states_that_were_written_once_are_read(
    make: Callable[[], Http1], version_2: str, version_3: str
) -> None:
    codec = make()
    assert codec.snapshot().hex() == version_3
    for state in (version_2, version_3):
        restored = PLUGIN.restore(bytes.fromhex(state), codec.role, DEFAULT_LIMITS)
        assert isinstance(restored, SupportsSnapshot)
        assert restored.snapshot().hex() == version_3


@pytest.mark.parametrize("damage", [{2: "client"}, {5: True}, {11: None}, {11: "done"}, {14: 0}])
def test_a_state_of_version_2_is_believed_as_little(damage: dict[int, object]) -> None:
    parts = msgpack.unpackb(bytes.fromhex(GOLDEN[0][1]))
    for place, value in damage.items():
        parts[place] = value
    with pytest.raises(ValueError):
        PLUGIN.restore(msgpack.packb(parts), Role.SERVER, DEFAULT_LIMITS)
    with pytest.raises(ValueError, match="has 14 fields, not 15"):
        PLUGIN.restore(msgpack.packb(parts[:-1]), Role.SERVER, DEFAULT_LIMITS)
