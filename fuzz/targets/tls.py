"""Invariant: any bytes of a TLS peer, cut anywhere and moved anywhere, give the same data and end, within bounds.

Also: reading a ClientHello is total and final for any longer prefix, a handshake fails with TlsError alone, and
``resume`` of any bytes raises ValueError or gives a stream that reads anything.

The first four bytes choose: what reads, with which keys, how it is cut, and where it is moved. To reach beyond
authentication, records are sealed with the peer's own keys: the rest of the input is a script of them.
"""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable, Coroutine
from typing import Final, TypeVar

import trio

from fuzz.targets import Seed, Target
from xproxy.codecs.api import VerdictKind
from xproxy.codecs.tls.hello import (
    ClientHello,
    HelloBroken,
    HelloWanted,
    read_hello,
    recognise,
)
from xproxy.model.address import Address
from xproxy.testing.subject import Broken
from xproxy.transport.tls.alerts import TlsError
from xproxy.transport.tls.facts import TlsFacts
from xproxy.transport.tls.gate import HandshakeGate
from xproxy.transport.tls.handshake import Handshake
from xproxy.transport.tls.keys import TLS12, TLS13, hash_bytes, iv_bytes, suite_of
from xproxy.transport.tls.protection import DirectionState, Protection13, protection_of
from xproxy.transport.tls.records import HANDSHAKE, HEADER_BYTES, MAX_RECORD_BYTES
from xproxy.transport.tls.session import SessionState
from xproxy.transport.tls.state import StreamState, dump
from xproxy.transport.tls.stream import TlsStream, resume

T = TypeVar("T")

_HEADER_BYTES: Final = 4
_SUITES: Final = (
    (TLS13, "TLS_AES_128_GCM_SHA256"),
    (TLS13, "TLS_CHACHA20_POLY1305_SHA256"),
    (TLS12, "ECDHE-ECDSA-AES256-GCM-SHA384"),
    (TLS12, "ECDHE-RSA-CHACHA20-POLY1305"),
)
_MAX_OWED_BYTES: Final = 64 * 1024
_HELLO: Final = bytes.fromhex(
    "16030100510100004d0303" + "72" * 32 + "0000021301010000220000000b00090000066120746573"
    "74001000050003026832002b00050403040303"
)


class _Under:
    """A connection that has said everything before anybody reads."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.peer = self.local = Address("127.0.0.1", 1)
        self.hung_up = self.half_close = self.pending = False
        self.pieces = pieces
        self.written = 0

    async def read(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    def read_now(self) -> bytes | None:
        return None

    def settle(self, more: float = 0.0) -> None: ...

    async def turn(self) -> None: ...

    async def pause(self, seconds: float) -> None: ...

    def write_now(self, data: bytes | memoryview) -> int:
        self.written += len(data)
        return len(data)

    async def wait_writable(self) -> None: ...

    def watch(self, scope: trio.CancelScope | None) -> None: ...

    def shutdown_write(self) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...


def _now(work: Coroutine[object, object, T]) -> T:
    """Run what never waits."""
    try:
        work.send(None)
    except StopIteration as end:
        done: T = end.value
        return done
    raise Broken("it waits", b"")


def state_of(suite: int) -> StreamState:
    """Return a session of any of some suites."""
    version, cipher = _SUITES[suite % len(_SUITES)]
    found = suite_of(version, cipher)
    assert found is not None
    size, iv = (hash_bytes(found), 0) if version == TLS13 else (found.key_bytes, iv_bytes(found))
    return StreamState(
        session=SessionState(
            version=version,
            read=DirectionState(b"r" * size, b"i" * iv, 1),
            write=DirectionState(b"w" * size, b"j" * iv, 1),
        ),
        facts=TlsFacts(version=version, cipher=cipher),
    )


def _records(state: StreamState, script: bytes) -> bytes:
    """Return what the script says: a byte each for the record's type and its length, and then its content."""
    suite = suite_of(state.facts.version, state.facts.cipher)
    assert suite is not None
    peer = protection_of(state.facts.version, suite, state.session.read)
    said, at = b"", 0
    while at + 2 <= len(script):
        kind, length = script[at], script[at + 1]
        content = script[at + 2 : at + 2 + length]
        at += 2 + length
        if kind == 255:
            said += content  # not sealed
            continue
        said += peer.seal(kind, content)
        if kind == HANDSHAKE and content[:1] == b"\x18" and isinstance(peer, Protection13):
            peer.update()
    return said


def _all_of(stream: TlsStream, under: _Under) -> tuple[bytes, str]:
    """Read to the end; return the data and how it ended."""
    got = b""
    try:
        while data := _now(stream.read()):
            got += data
            if len(stream._rest) > HEADER_BYTES + MAX_RECORD_BYTES:
                raise Broken(f"{len(stream._rest)} bytes held", got)
    except trio.BrokenResourceError as exc:
        end = type(exc).__name__
    else:
        end = "end"
    if under.written > _MAX_OWED_BYTES:
        raise Broken(f"{under.written} bytes answered", got)
    return got, end


def _check_records(suite: int, seed: int, offset: int, script: bytes) -> None:
    state = state_of(suite)
    said = _records(state, script)
    under = _Under([said] if said else [])
    whole = _all_of(resume(under, dump(state)), under)
    chance = random.Random(seed)
    pieces, at = [], 0
    while at < len(said):
        size = chance.choice((1, 2, 5, 30, 300))
        pieces.append(said[at : at + size])
        at += size
    under = _Under(pieces)
    found = _all_of(resume(under, dump(state)), under)
    if found != whole:
        raise Broken(f"whole {whole}, in pieces {found}", said)
    offset %= len(said) + 1
    under = _Under([said[:offset]] if offset else [])
    stream = resume(under, dump(state))
    got = b""
    try:
        while under.pieces:
            got += _now(_one(stream, under))
        moved = stream.export()
    except (trio.BrokenResourceError, TlsError):
        return  # it ended before the move
    rest = _Under([said[offset:]] if said[offset:] else [])
    after, end = _all_of(resume(rest, moved), rest)
    if (got + after, end) != whole:
        raise Broken(f"whole {whole}, moved {(got + after, end)}", said)


async def _one(stream: TlsStream, under: _Under) -> bytes:
    # ``read`` goes on until there is data; a move may come between any two reads below.
    return stream._take(await under.read())


def _check_hello(data: bytes) -> None:
    final: ClientHello | HelloBroken | None = None
    step = max(1, len(data) // 64)
    for size in [*range(0, len(data), step), len(data)]:
        found = read_hello(data[:size])
        if final is not None and found != final:
            raise Broken(f"{final} becomes {found}", data[:size])
        if isinstance(found, HelloWanted):
            if found.at_least <= size:
                raise Broken(f"{size} bytes, and it asks for {found.at_least}", data[:size])
        else:
            final = found
        if (
            isinstance(found, ClientHello)
            and data[3:5] >= b"\0\4"
            and recognise(data[:size]).kind is not VerdictKind.YES
        ):
            raise Broken("read, and not recognised", data[:size])


def _check_state(data: bytes) -> None:
    under = _Under([data])
    try:
        stream = resume(under, data)
    except ValueError:
        return
    _all_of(stream, under)
    stream.close()


def _check_handshake(context: ssl.SSLContext, gate: HandshakeGate, data: bytes) -> None:
    handshake = Handshake(context, None, server_name="a.test", server=False)
    try:
        _now(handshake.run(_Under([data]), b"", gate))
    except TlsError:
        return
    raise Broken("a handshake without keys", data)


def target(_registry: object) -> Target:
    """Return the target."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    gate = HandshakeGate(seconds_a_tick=1e9)

    def check(data: bytes) -> None:
        if len(data) < _HEADER_BYTES:
            return
        way, suite, seed, offset = data[:_HEADER_BYTES]
        rest = data[_HEADER_BYTES:]
        if way % 8 == 0:
            _check_handshake(context, gate, rest)
        elif way % 8 == 1:
            _check_state(rest)
        elif way % 8 < 4:
            _check_hello(rest)
        else:
            _check_records(suite, seed, offset * 3, rest)

    return Target(name="tls", check=check, seeds=_seeds, mutate=_keeping_the_choice)


def _seeds() -> list[Seed]:
    script = b"\x17\x05hello\x16\x05\x18\0\0\1\1\x17\x05world\x15\x02\x01\0"
    broken = b"\x17\x03abc\xff\x07\x17\x03\x03\0\x02ab\x17\0"
    ticket = b"\x16\x07\x04\0\0\x06abc\x16\x03def\x17\x01!"
    return [
        Seed("hello", b"\x02\0\0\0" + _HELLO),
        Seed("handshake", b"\0\0\0\0\x16\x03\x03\0\x2a\x02\0\0\x26\x03\x03" + b"s" * 40),
        *(Seed(f"state-{n}", b"\1\0\0\0" + dump(state_of(n))) for n in range(2)),
        *(
            Seed(f"records-{n}-{m}", bytes((4, n, m, 7 * m + n)) + one)
            for n in range(len(_SUITES))
            for m, one in enumerate((script, broken, ticket))
        ),
    ]


def _keeping_the_choice(
    data: bytes, chance: random.Random, mutate: Callable[[bytes, random.Random], bytes]
) -> bytes:
    choice = bytearray(data[:_HEADER_BYTES])
    if chance.random() < 0.3 and len(choice) == _HEADER_BYTES:
        choice[1:] = chance.randbytes(3)
    return bytes(choice) + mutate(data[_HEADER_BYTES:], chance)
