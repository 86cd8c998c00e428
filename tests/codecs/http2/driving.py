"""Drive http2 codecs in tests: a peer that writes its frames by hand, with `hpack`'s own tables, and reads ours."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs
import hpack

from xproxy.codecs.http2.client import ClientCodec
from xproxy.codecs.http2.limits import DEFAULT_HTTP2_LIMITS, Http2Limits
from xproxy.codecs.http2.plugin import Http2Plugin
from xproxy.codecs.http2.server import ServerCodec
from xproxy.codecs.http2.snapshot import SCHEMA, Snapshot
from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.wire import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    frame,
    settings,
)
from xproxy.model.frames import Frame, Head, Reply, Violation
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS, Limits
from xproxy.model.message import RequestHead, ResponseHead, Target
from xproxy.model.status import Status
from xproxy.model.traits import Role

VECTORS = sorted((Path(__file__).parent / "vectors").glob("*.json"))

Pairs = Sequence[tuple[str, str]]

GET: Pairs = (
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "a.example"),
)
POST: Pairs = ((":method", "POST"), *GET[1:])
OK: Pairs = ((":status", "200"),)

REQUEST = RequestHead(
    service="a.example",
    method="GET",
    headers=Headers((("x-sample", "one"),)),
    extra=Target(path="/", version="2"),
)
UPLOAD = attrs.evolve(REQUEST, method="POST")
RESPONSE = ResponseHead(status=Status.OK, native_status=200)


@attrs.frozen
class Seen:
    """A frame on the wire."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes


def parse(wire: bytes) -> list[Seen]:
    """Cut bytes into frames."""
    wire = wire.removeprefix(PREFACE)
    seen: list[Seen] = []
    while wire:
        size = int.from_bytes(wire[:3], "big")
        kind, flags, stream_id = struct.unpack(">BBI", wire[3:9])
        assert len(wire) >= 9 + size
        seen.append(Seen(kind, flags, stream_id & 0x7FFFFFFF, wire[9 : 9 + size]))
        wire = wire[9 + size :]
    return seen


def replies(frames: Iterable[Frame]) -> bytes:
    """Join what the codec answered by itself."""
    return b"".join(f.data for f in frames if isinstance(f, Reply))


class Hand:
    """A peer that writes what it likes, and says nothing by itself."""

    def __init__(self, codec: ServerCodec | ClientCodec, *, started: bool = True) -> None:
        self.codec = codec
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.frames: list[Frame] = []
        """All that the codec ever gave."""
        self.greeting = replies(codec.receive(b""))
        if started:
            first = PREFACE if isinstance(codec, ServerCodec) else b""
            self.say(first + settings(()) + SETTINGS_ACK)

    def say(self, *wire: bytes) -> list[Frame]:
        """Send bytes; return what the codec makes of them."""
        got = list(self.codec.receive(b"".join(wire)))
        self.frames += got
        return got

    def block(self, pairs: Pairs) -> bytes:
        """Return a header block."""
        return self.encoder.encode(list(pairs))

    def head(self, stream_id: int, pairs: Pairs, *, end: bool = True) -> bytes:
        """Return a HEADERS frame."""
        flags = END_HEADERS | (END_STREAM if end else 0)
        return frame(HEADERS, flags, stream_id, self.block(pairs))

    def ask(self, stream_id: int = 1, pairs: Pairs = GET, *, end: bool = True) -> list[Frame]:
        """Send a head."""
        return self.say(self.head(stream_id, pairs, end=end))

    def fields(self, seen: Seen) -> list[tuple[str, str]]:
        """Read a header block of the codec's."""
        assert seen.kind == HEADERS
        return [(str(n), str(v)) for n, v in self.decoder.decode(seen.payload)]


def data(stream_id: int, payload: bytes, *, end: bool = False, padding: int | None = None) -> bytes:
    """Return a DATA frame."""
    flags = END_STREAM if end else 0
    if padding is None:
        return frame(DATA, flags, stream_id, payload)
    return frame(DATA, flags | PADDED, stream_id, bytes((padding,)) + payload + bytes(padding))


def plugin_with(own: Http2Limits) -> Http2Plugin:
    """Return a plugin with these options."""
    return Http2Plugin(**{f.name: getattr(own, f.name) for f in attrs.fields(Http2Limits)})


def server(limits: Limits = DEFAULT_LIMITS, own: Http2Limits = DEFAULT_HTTP2_LIMITS) -> ServerCodec:
    """Open a server with a memory of its own."""
    codec = plugin_with(own).open(Role.SERVER, limits)
    assert isinstance(codec, ServerCodec)
    return codec


def client(limits: Limits = DEFAULT_LIMITS, own: Http2Limits = DEFAULT_HTTP2_LIMITS) -> ClientCodec:
    """Open a client with a memory of its own."""
    codec = plugin_with(own).open(Role.CLIENT, limits)
    assert isinstance(codec, ClientCodec)
    return codec


def serving(limits: Limits = DEFAULT_LIMITS, own: Http2Limits = DEFAULT_HTTP2_LIMITS) -> Hand:
    """Return a hand that talks to a server."""
    return Hand(server(limits, own))


def asked(
    requests: Sequence[RequestHead] = (REQUEST,),
    limits: Limits = DEFAULT_LIMITS,
    own: Http2Limits = DEFAULT_HTTP2_LIMITS,
) -> Hand:
    """Return a hand that talks to a client which has sent whole requests on streams 1, 3, …."""
    hand = Hand(client(limits, own))
    for message in requests:
        stream_id = hand.codec.next_stream_id()  # type: ignore[union-attr]  # it is a client
        hand.codec.send(Head(stream_id, message, b"", message.method != "POST"))
    return hand


def opened() -> Hand:
    """A server with stream 1 open in both directions."""
    hand = serving()
    hand.ask(1, POST, end=False)
    return hand


def half_closed() -> Hand:
    """A server that owes the answer on stream 1."""
    hand = serving()
    hand.ask(1)
    return hand


def closed() -> Hand:
    """A server that answered on stream 1."""
    hand = half_closed()
    hand.codec.send(Head(1, RESPONSE, b"", end=True))
    return hand


def waiting() -> Hand:
    """A client that awaits the answer on stream 1."""
    return asked()


def uploading() -> Hand:
    """A client whose request on stream 1 goes on."""
    return asked((UPLOAD,))


def answered() -> Hand:
    """A client that has the answer on stream 1."""
    hand = asked()
    hand.ask(1, OK)
    return hand


def crime(frames: Sequence[Frame]) -> ErrorCode | None:
    """Return the code of the GOAWAY that a Violation ends with; None if there is none."""
    if not frames or not isinstance(frames[-1], Violation):
        return None
    (seen,) = parse(frames[-1].farewell)
    assert seen.kind == GOAWAY
    assert seen.stream_id == 0
    return ErrorCode(int.from_bytes(seen.payload[4:8], "big"))


def state_of(codec: ServerCodec | ClientCodec) -> Snapshot:
    """Return what a codec writes down of its state."""
    return SCHEMA.unpack(codec.snapshot())


def resets(frames: Iterable[Frame]) -> dict[int, ErrorCode]:
    """Return the streams that the codec reset by itself."""
    return {
        seen.stream_id: ErrorCode(int.from_bytes(seen.payload, "big"))
        for seen in parse(replies(frames))
        if seen.kind == RST_STREAM
    }


def heads(frames: Iterable[Frame]) -> list[Head]:
    """Return the heads."""
    return [f for f in frames if isinstance(f, Head)]


def acknowledged(wire: bytes) -> int:
    """Count the acknowledgements of SETTINGS."""
    return sum(seen.kind == SETTINGS and bool(seen.flags & 1) for seen in parse(wire))


def continuations(stream_id: int, block: bytes, sizes: Sequence[int], *, end: bool = True) -> bytes:
    """Return a block as HEADERS and CONTINUATION frames of these sizes; the last takes the rest."""
    parts: list[bytes] = []
    for size in sizes:
        parts.append(block[:size])
        block = block[size:]
    parts.append(block)
    first = frame(HEADERS, END_STREAM if end else 0, stream_id, parts[0])
    rest = [
        frame(CONTINUATION, END_HEADERS if i == len(parts) - 1 else 0, stream_id, part)
        for i, part in enumerate(parts)
        if i
    ]
    return first + b"".join(rest)


@attrs.frozen
class Recording:
    """One connection of a vector."""

    name: str
    requests: bytes
    responses: bytes
    frames: list[dict[str, Any]]  # Any: parsed JSON of our own files


def recordings() -> list[Recording]:
    """Read all vectors."""
    found: list[Recording] = []
    for path in VECTORS:
        vector = json.loads(path.read_text())
        for number, connection in enumerate(vector["connections"]):
            streams = {
                way: b"".join(
                    bytes.fromhex(s["hex"])
                    for s in connection["segments"]
                    if s["dir"] == way and "hex" in s
                )
                for way in ("c2s", "s2c")
            }
            name = f"{path.stem}-{number}"
            found.append(Recording(name, streams["c2s"], streams["s2c"], connection["frames"]))
    return found
