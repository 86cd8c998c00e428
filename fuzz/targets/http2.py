"""Invariant: that of every codec; and where `h2` reads the same frames, both tell of the same messages.

Where one of the two holds something against a connection and the other does not, the difference is in a list here,
with its reason. Everything else is a finding.

As in ``codec``, four bytes choose. Of the first, bit 3 asks for the comparison, and bit 0 says who reads: a server,
or a client that has asked for three things. What follows the choice are frames; the preface and the first SETTINGS,
without which nothing else is ever looked at, are put before them.
"""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Iterator, Sequence

import attrs
import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

from fuzz.targets import Seed, Target
from fuzz.targets.codec import target as codec_target
from xproxy.codecs.api import CodecPlugin
from xproxy.codecs.http2.fields import HOP, KINDS, NOT_IN_TRAILERS
from xproxy.codecs.http2.limits import Http2Limits
from xproxy.codecs.http2.plugin import Http2Plugin
from xproxy.codecs.http2.wire import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    HEADERS,
    PADDED,
    PREFACE,
    frame,
    goaway,
    ping,
    rst_stream,
    settings,
    window_update,
)
from xproxy.model.frames import Data, Frame, Head, Reply, Reset, Trailers, Violation
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.message import Target as WebTarget
from xproxy.model.traits import Role
from xproxy.testing.subject import Broken

COMPARED = 8
"""The bit of the first byte that asks for the comparison."""
_HEADER_BYTES = 4
_FRAME = struct.Struct(">HBBBI")

OURS_ONLY = (
    r"a frame of \d+ bytes, limit",  # refused before it is whole; h2 waits for the rest
    r"which is idle",  # WINDOW_UPDATE and RST_STREAM for a stream that nobody opened (§5.1)
    r"which is closed",  # the RFC's stream error after the peer's own RST_STREAM is the connection's here (§5.4)
    r"the first frame is not SETTINGS",  # §3.4
    r"GOAWAY with a higher last stream",  # §6.8
    r"CONTINUATION without",  # §6.10, on a stream that h2 has closed
    r"HEADERS that end within",  # §6.2, likewise
    r"SETTINGS with \d+ values",  # a limit of ours
    # h2 looks at the last value only of a setting that is given twice in a frame (§6.5.3).
    r"INITIAL_WINDOW_SIZE \d+, limit",
    r"neither 0 nor 1",
    r"MAX_FRAME_SIZE \d+, not",
    r"ENABLE_CONNECT_PROTOCOL taken back",  # RFC 8441 §3
    r"PUSH_PROMISE",  # §8.4, on a stream that h2 has closed
    r"empty frames in a row",  # a limit of ours
    r"above \d+ table size updates",  # RFC 7541 §4.2 has a use for two; hpack takes any number
    r"not the connection preface",  # h2 waits for all 24 bytes
)
"""Connection errors that h2 lets pass."""
THEIRS_ONLY = (
    # Malformed messages are errors of their stream (§8.1.1); h2 ends the connection for them.
    "cannot receive data before headers",
    "header name",
    "pseudo-header",
    "missing mandatory",
    "request-only headers",
    "response-only headers",
    "Invalid value for TE",
    "Trailers must have END_STREAM",
    "InvalidBodyLength",
    "StreamClosedError",
    "RECV_INFORMATIONAL_HEADERS",
    "informational responses",
    "Informational response after",
    "Illegal character",
    "surrounded by whitespace",
    "does not have an :authority",
    "mismatched :authority",
    "Invalid content-length",
    "Connection-specific header",
    "empty :path",
    # Priorities mean nothing any more (§5.3.2).
    "may not depend on itself",
    # Padding that leaves nothing of a header block, which is allowed (§6.2).
    "invalid padding",
    # All that follows a GOAWAY, and frames for closed streams.
    "in state ConnectionState.CLOSED",
    # The reserved bit of a WINDOW_UPDATE, which is to be ignored (§6.9); and one of nothing for a stream.
    "non-compliant data",
    # PRIORITY of a wrong length, which is an error of its stream (§6.3).
    "FrameDataMissing",
    # Seen in the head of a frame that is not whole yet.
    "Received frame with invalid header",
)
"""Errors of h2 that end only a stream here, or nothing."""


@attrs.define
class Told:
    """What was understood of one message."""

    fields: list[tuple[str, str]] = attrs.field(factory=list)
    body: bytes = b""
    trailers: list[tuple[str, str]] = attrs.field(factory=list)
    ended: bool = False


def target(plugin: CodecPlugin) -> Target:
    """Return the target of the codec, with the comparison."""
    every = codec_target(plugin)

    def check(data: bytes) -> None:
        if len(data) >= _HEADER_BYTES and data[0] & COMPARED:
            compare(Role.CLIENT if data[0] & 1 else Role.SERVER, data[_HEADER_BYTES:])
        else:
            every.check(data)

    def change(
        data: bytes, chance: random.Random, mutate: Callable[[bytes, random.Random], bytes]
    ) -> bytes:
        if len(data) < _HEADER_BYTES or not data[0] & COMPARED:
            return every.mutate(data, chance, mutate)
        return data[:_HEADER_BYTES] + change_frames(data[_HEADER_BYTES:], chance, mutate)

    return Target(
        name=every.name, check=check, seeds=lambda: [*every.seeds(), *_seeds()], mutate=change
    )


# ---- the comparison

_ASKED = ("GET", "POST", "HEAD")
"""The methods of what a client has asked for, on the streams 1, 3, 5."""


def compare(role: Role, frames: bytes) -> None:
    """Let both read the same frames. Raises Broken where they differ and no list says why."""
    start = (PREFACE if role is Role.SERVER else b"") + settings(())
    wire = start + frames
    fault, ours, replies = _ours(role, wire)
    error, theirs = _theirs(role, wire)
    if fault and not error:
        if not any(re.search(known, fault) for known in OURS_ONLY):
            raise Broken(f"h2 has nothing against what is {fault!r} here", wire)
        return
    if error and not fault and not any(known in error for known in THEIRS_ONLY):
        raise Broken(f"h2 says {error!r}, and nothing is said here", wire)
    if error or fault:
        return
    for stream_id, told in ours.items():
        if stream_id not in theirs:
            raise Broken(f"a message on stream {stream_id}, of which h2 knows nothing", wire)
        if told != theirs[stream_id]:
            raise Broken(f"stream {stream_id}: {told} here, {theirs[stream_id]} there", wire)
    for stream_id in theirs:
        if stream_id not in ours and stream_id not in replies:
            raise Broken(f"a message on stream {stream_id} that nobody tells of here", wire)


def _ours(role: Role, wire: bytes) -> tuple[str, dict[int, Told], set[int]]:
    """Return what is held against the connection, the messages of streams not reset, and what was answered."""
    codec = Http2Plugin().open(role, DEFAULT_LIMITS)
    codec.receive(b"")
    if role is Role.CLIENT:
        for stream_id, method in zip((1, 3, 5), _ASKED, strict=True):
            head = RequestHead(service="a", method=method, extra=WebTarget(path="/", version="2"))
            codec.send(Head(stream_id, head, b"", method != "POST"))
    told: dict[int, Told] = {}
    answered: set[int] = set()
    over: set[int] = set()
    for got in codec.receive(wire):
        if isinstance(got, Violation):
            return got.detail, {}, set()
        _note(got, told, over)
        if isinstance(got, Reply):
            answered |= {i for kind, _, i, _ in split(got.data) if i and kind in (HEADERS, 3)}
    return "", {i: t for i, t in told.items() if i not in over}, answered | over


def _note(got: Frame, told: dict[int, Told], over: set[int]) -> None:
    if isinstance(got, Head) and not got.interim:
        message = got.message
        extra: list[tuple[str, str]] = []
        if isinstance(message, ResponseHead):
            extra = [(":status", str(message.native_status))]
        elif isinstance(message.extra, WebTarget):
            extra = [(":method", message.method), (":path", message.extra.path)]
        # Where h2 puts the crumbs that it has joined: at the end.
        pairs = sorted(message.headers.pairs, key=lambda pair: pair[0] == "cookie")
        told[got.stream_id] = Told([*extra, *pairs], got.data, [], got.end)
    elif isinstance(got, Data):
        told[got.stream_id].body += got.data
        told[got.stream_id].ended = got.end
    elif isinstance(got, Trailers):
        told[got.stream_id].trailers = list(got.headers.pairs)
        told[got.stream_id].ended = True
    elif isinstance(got, Reset):
        over.add(got.stream_id)


def _theirs(role: Role, wire: bytes) -> tuple[str, dict[int, Told]]:
    """Return what h2 holds against the connection, and the messages of streams that were not reset."""
    client = role is Role.CLIENT
    config = h2.config.H2Configuration(client_side=client, header_encoding="latin-1")
    peer = h2.connection.H2Connection(config)
    own = Http2Limits()
    window = {
        h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: own.first_window,
        h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: DEFAULT_LIMITS.max_streams,
    }
    peer.local_settings = h2.settings.Settings(client=client, initial_values=window)
    peer.initiate_connection()
    if client:
        for stream_id, method in zip((1, 3, 5), _ASKED, strict=True):
            pairs = [(":method", method), (":scheme", "http"), (":path", "/"), (":authority", "a")]
            peer.send_headers(stream_id, pairs, end_stream=method != "POST")
    peer.increment_flow_control_window(own.connection_window_bytes - 65_535)
    told: dict[int, Told] = {}
    over: set[int] = set()
    try:
        events = peer.receive_data(wire)
    except (h2.exceptions.ProtocolError, struct.error) as exc:
        return f"{type(exc).__name__} {exc}", {}
    for event in events:
        if isinstance(event, h2.events.RequestReceived | h2.events.ResponseReceived):
            told[event.stream_id] = Told(list(_carried(event.headers)))
        elif isinstance(event, h2.events.DataReceived):
            told[event.stream_id].body += event.data
        elif isinstance(event, h2.events.TrailersReceived):
            told[event.stream_id].trailers = [
                pair for pair in _as_text(event.headers) if pair[0] not in NOT_IN_TRAILERS
            ]
        elif isinstance(event, h2.events.StreamEnded):
            if event.stream_id in told:
                told[event.stream_id].ended = True
        elif isinstance(event, h2.events.StreamReset):
            over.add(event.stream_id)
    return "", {i: t for i, t in told.items() if i not in over}


def _carried(headers: Sequence[tuple[object, object]]) -> Iterator[tuple[str, str]]:
    """Give what a message carries on: without what ends at this hop, and with one cookie."""
    pairs = _as_text(headers)
    crumbs = [value for name, value in pairs if name == "cookie"]
    status = dict(pairs).get(":status", "")
    # CONNECT, and responses without a body, have no length that could travel on.
    lengthless = ("CONNECT", "204") if dict(pairs).get(":method") == "CONNECT" else ("204",)
    for name in (":status", ":method", ":path"):
        if name in dict(pairs):
            yield name, dict(pairs)[name]
        elif name == ":path" and dict(pairs).get(":method") == "CONNECT":
            yield name, ""
    for name, value in pairs:
        if name.startswith(":") or name == "host" or KINDS[name] == HOP:
            continue
        if name == "content-length" and (status in lengthless or "CONNECT" in lengthless):
            continue
        if name != "cookie":
            yield name, value
    if crumbs:
        yield "cookie", "; ".join(crumbs)


def _as_text(headers: Sequence[tuple[object, object]]) -> list[tuple[str, str]]:
    return [(str(name), str(value)) for name, value in headers]


# ---- frames as inputs


def split(wire: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Give the frames of ``wire``: kind, flags, stream, payload; the last may be cut short."""
    at = 0
    while len(wire) - at >= 9:
        high, low, kind, flags, stream_id = _FRAME.unpack_from(wire, at)
        size = high << 8 | low
        yield kind, flags, stream_id & 0x7FFFFFFF, wire[at + 9 : at + 9 + size]
        at += 9 + size


_SPICE: tuple[bytes, ...] = (
    ping(bytes(8)),
    settings([(1, 0)]),
    settings([(4, 0), (4, 70_000)]),
    window_update(0, 1000),
    window_update(1, 1),
    rst_stream(1, 8),
    rst_stream(3, 7),
    goaway(2**31 - 1, 0),
    frame(DATA, 0, 1, b"abc"),
    frame(DATA, 1, 1, b""),
    frame(DATA, PADDED, 3, b"\x02ab\0\0"),
    frame(2, 0, 5, bytes(5)),
    frame(0x42, 0xFF, 7, b"?"),
)


def change_frames(
    wire: bytes, chance: random.Random, mutate: Callable[[bytes, random.Random], bytes]
) -> bytes:
    """Change frames as frames: their order, their kinds, streams and flags, and now and then their bytes."""
    frames = list(split(wire))
    if not frames:
        return chance.choice(_SPICE)
    at = chance.randrange(len(frames))
    kind, flags, stream_id, payload = frames[at]
    match chance.randrange(10):
        case 0:
            del frames[at]
        case 1:
            frames.insert(chance.randrange(len(frames) + 1), frames[at])
        case 2:
            other = chance.randrange(len(frames))
            frames[at], frames[other] = frames[other], frames[at]
        case 3:
            frames[at] = kind, flags ^ chance.choice((1, 4, 8, 0x20)), stream_id, payload
        case 4:
            frames[at] = kind, flags, chance.choice((0, 1, 2, 3, 5, 7, 9, 11)), payload
        case 5 if kind == HEADERS and flags & END_HEADERS:
            cut = chance.randrange(len(payload) + 1)
            frames[at] = kind, flags & ~END_HEADERS, stream_id, payload[:cut]
            frames.insert(at + 1, (CONTINUATION, END_HEADERS, stream_id, payload[cut:]))
        case 6:
            frames[at] = chance.randrange(11), flags, stream_id, payload
        case 7 | 8:
            frames[at:at] = split(chance.choice(_SPICE))
        case _:
            frames[at] = kind, flags, stream_id, mutate(payload, chance)
    return b"".join(frame(*one) for one in frames)


def _seeds() -> list[Seed]:
    """Return whole conversations, each direction for itself."""
    return [
        Seed(f"compared-{index}", bytes((COMPARED | way, 0, 0, 0)) + wire)
        for index, (way, wire) in enumerate(
            (way, b"".join(said)) for way in (0, 1) for said in _SAID[way]
        )
    ]


_GET = bytes.fromhex("828684 41 01 61")
_POST = bytes.fromhex("838684 41 01 61")
_OK = b"\x88"
_FIELDS = b"\x40\x03x-a\x011\x00\x06cookie\x03a=b\x00\x06cookie\x03c=d\x00\x02te\x08trailers"
_SAID: tuple[tuple[tuple[bytes, ...], ...], ...] = (
    (
        (frame(HEADERS, 5, 1, _GET), frame(HEADERS, 5, 3, _GET + _FIELDS)),
        (frame(HEADERS, 4, 1, _POST), frame(DATA, 0, 1, b"one"), frame(DATA, 1, 1, b"two")),
        (
            frame(HEADERS, 4, 1, _POST + b"\x0f\x0d\x013"),
            frame(DATA, 8, 1, b"\x01abc\0"),
            frame(HEADERS, 5, 1, b"\x00\x03x-t\x011"),
        ),
        (frame(HEADERS, 0x25, 1, bytes(5) + _GET), rst_stream(1, 8), frame(HEADERS, 5, 3, _GET)),
        (settings([(1, 100), (4, 10)]), settings(()), frame(HEADERS, 5, 1, b"\x20" + _GET)),
    ),
    (
        (frame(HEADERS, 4, 1, _OK), frame(DATA, 1, 1, b"body")),
        (frame(HEADERS, 4, 3, b"\x08\x03103"), frame(HEADERS, 5, 3, _OK + _FIELDS)),
        (frame(HEADERS, 5, 5, _OK + b"\x0f\x0d\x015"), frame(HEADERS, 5, 1, b"\x89")),
        (frame(HEADERS, 4, 1, _OK), frame(HEADERS, 5, 1, b"\x00\x03x-t\x011"), goaway(3, 0)),
    ),
)
