"""Any frames in any order, most of them nearly right: read the same in every cut and after a move, and as `h2` does.

Where the two differ the difference is in a list, with its reason. Everything else is a finding.
"""

from __future__ import annotations

import random
import re
import struct

import attrs
import h2.config
import h2.connection
import h2.exceptions
import h2.settings
import hpack
import pytest

from fuzz.targets.http2 import OURS_ONLY, THEIRS_ONLY
from tests.codecs.http2.driving import (
    GET,
    OK,
    POST,
    REQUEST,
    RESPONSE,
    UPLOAD,
    client,
    plugin_with,
    server,
)
from xproxy.codecs.http2.client import ClientCodec
from xproxy.codecs.http2.limits import DEFAULT_HTTP2_LIMITS, Http2Limits
from xproxy.codecs.http2.server import ServerCodec
from xproxy.codecs.http2.wire import (
    DATA,
    END_HEADERS,
    HEADERS,
    PREFACE,
    frame,
    goaway,
    ping,
    rst_stream,
    settings,
    window_update,
)
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Data, Frame, Head, Reset, Trailers, Violation
from xproxy.model.limits import DEFAULT_LIMITS, Limits, Size
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.testing.traffic import normal_form

ROUNDS = 400
"""Connections for each seed. A run of half an hour found nothing more than what is in the list."""
TIGHT = Limits(max_head_bytes=512, max_headers=8, max_target_bytes=128, max_streams=4)
OTHER = Http2Limits(
    stream_window_bytes=Size(50), table_bytes=Size(64), max_empty_frames=3, extended_connect=True
)


class Maker:
    """Makes a connection's frames."""

    def __init__(self, chance: random.Random, role: Role) -> None:
        self.chance = chance
        self.role = role
        self.encoder = hpack.Encoder()
        self.next_id = 1

    def any_id(self) -> int:
        if self.role is Role.CLIENT:
            return self.chance.choice((1, 3, 5))
        return max(1, self.next_id - 2 * self.chance.randrange(1, 4))

    def head(self) -> bytes:
        chance = self.chance
        if self.role is Role.SERVER:
            stream_id, pairs = self.next_id, list(chance.choice((GET, POST)))
            self.next_id += 2
        else:
            stream_id, pairs = self.any_id(), list(OK)
        known = (("x-a", "1"), ("te", "trailers"), ("x-b", "v" * chance.randrange(200)))
        odd = (("content-length", str(chance.randrange(4))), ("X", "y"), (":path", "/"))
        pairs += chance.sample(known + known + odd, chance.randrange(3))
        flags = END_HEADERS | chance.choice((0, 0, 1))
        return frame(HEADERS, flags, stream_id, self.encoder.encode(pairs))

    def likely(self) -> bytes:
        chance, stream_id = self.chance, self.any_id()
        match chance.randrange(10):
            case 0 | 1 | 2 | 3:
                return self.head()
            case 4 | 5 | 6:
                return frame(
                    DATA, chance.choice((0, 0, 1)), stream_id, bytes(chance.randrange(1, 4))
                )
            case 7:
                trailers = self.encoder.encode([("x-t", "1")])
                ends = (
                    frame(HEADERS, 5, stream_id, trailers),
                    rst_stream(stream_id, chance.randrange(14)),
                )
                return chance.choice(ends)
            case 8:
                setting = (chance.choice((1, 4)), chance.choice((0, 10, 99_999)))
                return chance.choice(
                    (settings((setting,)), ping(bytes(8)), ping(bytes(8), ack=True))
                )
            case _:
                more = window_update(chance.choice((0, stream_id)), chance.randrange(1, 99))
                return chance.choice((more, more, goaway(chance.choice((2**31 - 1, 1, 3)), 0)))

    def unlikely(self) -> bytes:
        chance = self.chance
        kind = chance.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 0x42))
        size = {2: 5, 3: 4, 4: 6, 6: 8, 7: 8, 8: 4}.get(kind, chance.randrange(40))
        payload = chance.choice((bytes(size), chance.randbytes(size), bytes(size + 1)))
        stream_id = chance.choice((0, 1, 2, 3, 5, 9, chance.getrandbits(31)))
        return frame(
            kind, chance.choice((0, 1, 4, 5, 8, 0x25, chance.getrandbits(8))), stream_id, payload
        )

    def connection(self) -> bytes:
        chance = self.chance
        first = PREFACE if self.role is Role.SERVER else b""
        frames = [
            self.likely() if chance.random() < 0.9 else self.unlikely()
            for _ in range(chance.randrange(1, 14))
        ]
        wire = bytearray(first + settings(()) + b"".join(frames))
        if chance.random() < 0.1:
            wire[chance.randrange(len(wire))] = chance.getrandbits(8)
        return bytes(wire)


HEAD_ONLY = attrs.evolve(REQUEST, method="HEAD")


def start(role: Role, limits: Limits, own: Http2Limits) -> ServerCodec | ClientCodec:
    """Open a codec; a client has asked three times."""
    if role is Role.SERVER:
        codec: ServerCodec | ClientCodec = server(limits, own)
    else:
        codec = client(limits, own)
    codec.receive(b"")
    if role is Role.CLIENT:
        for stream_id, message in ((1, REQUEST), (3, UPLOAD), (5, HEAD_ONLY)):
            codec.send(Head(stream_id, message, b"", message.method != "POST"))
    return codec


def take(codec: ServerCodec | ClientCodec, *pieces: bytes) -> list[Frame]:
    return [frame for piece in pieces for frame in codec.receive(piece)]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("role", list(Role))
def test_cuts_and_moves_cannot_be_seen(role: Role, seed: int) -> None:
    chance = random.Random(f"{role} {seed}")
    for _ in range(ROUNDS):
        limits, own = (
            chance.choice((TIGHT, DEFAULT_LIMITS)),
            chance.choice((DEFAULT_HTTP2_LIMITS, OTHER)),
        )
        wire = Maker(chance, role).connection()
        whole, singly, before = (start(role, limits, own) for _ in range(3))
        expected = normal_form(take(whole, wire))
        assert normal_form(take(singly, *[wire[i : i + 1] for i in range(len(wire))])) == expected
        cut = chance.randrange(len(wire) + 1)
        first = take(before, wire[:cut])
        after = plugin_with(own).restore(before.snapshot(), role, limits)
        assert isinstance(after, ServerCodec | ClientCodec)
        assert normal_form([*first, *take(after, wire[cut:])]) == expected
        assert whole.snapshot() == singly.snapshot() == after.snapshot()
        _say_anything(whole)


def _say_anything(codec: ServerCodec | ClientCodec) -> None:
    for stream_id in (1, 3, 5):
        answer = (
            Head(stream_id, RESPONSE, b"abc", end=True),
            Data(stream_id, b"x"),
            Trailers(stream_id, RESPONSE.headers),
            Reset(stream_id, Status.OK),
        )
        for said in answer:
            try:
                assert isinstance(codec.send(said), bytes)
            except LocalProtocolError:
                continue
        codec.consumed(stream_id, 5)
        assert codec.sendable(stream_id) >= 0


def theirs(role: Role, wire: bytes) -> str:
    """Return what h2 holds against ``wire``; empty: nothing."""
    client_side = role is Role.CLIENT
    peer = h2.connection.H2Connection(h2.config.H2Configuration(client_side=client_side))
    window = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 16 * 2**20}
    peer.local_settings = h2.settings.Settings(client=client_side, initial_values=window)
    peer.initiate_connection()
    if client_side:
        for stream_id, method in ((1, "GET"), (3, "POST"), (5, "HEAD")):
            pairs = [(":method", method), *GET[1:]]
            peer.send_headers(stream_id, pairs, end_stream=method != "POST")
    peer.increment_flow_control_window(24 * 2**20 - 65_535)
    try:
        peer.receive_data(wire)
    except (h2.exceptions.ProtocolError, struct.error) as exc:
        return f"{type(exc).__name__} {exc}"
    return ""


@pytest.mark.parametrize("role", list(Role))
def test_h2_thinks_the_same(role: Role) -> None:
    chance = random.Random(f"h2 {role}")
    for _ in range(ROUNDS):
        wire = Maker(chance, role).connection()
        last = take(start(role, DEFAULT_LIMITS, DEFAULT_HTTP2_LIMITS), wire)[-1:]
        ours = last[0].detail if last and isinstance(last[0], Violation) else ""
        said = theirs(role, wire)
        if ours and not said:
            assert any(re.search(known, ours) for known in OURS_ONLY), (ours, wire.hex())
        elif said and not ours:
            assert any(known in said for known in THEIRS_ONLY), (said, wire.hex())
