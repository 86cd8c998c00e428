"""Recorded traffic of curl 7.88.1, Node 20.20.2 and grpcio 1.85.1, read in every cut, and moved at every frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import hpack
import pytest

from tests.codecs.http2.driving import Recording, parse, recordings, resets, server, serving
from xproxy.codecs.http2.client import ClientCodec
from xproxy.codecs.http2.plugin import PLUGIN, Http2Plugin
from xproxy.codecs.http2.server import ServerCodec
from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.wire import HEADERS, SETTINGS
from xproxy.model.frames import Data, Frame, Head, Reset, Trailers
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead, Target
from xproxy.model.traits import Role
from xproxy.testing.reading import at_random, byte_by_byte, in_two, whole
from xproxy.testing.traffic import normal_form

RAW = ("grpc-gzip-0", "grpc-unary-0")
"""Raw bytes in a field, by a private agreement of the two ends: see the last test."""
RECORDINGS = [r for r in recordings() if r.name not in RAW]
every_recording = pytest.mark.parametrize(
    "recording", RECORDINGS, ids=[recording.name for recording in RECORDINGS]
)
Codec = ServerCodec | ClientCodec


def asker(recording: Recording) -> ClientCodec:
    """Return a client that has asked, without bodies, what the recorded one asked."""
    codec = Http2Plugin().open(Role.CLIENT, DEFAULT_LIMITS)
    assert isinstance(codec, ClientCodec)
    codec.receive(b"")
    reader = Http2Plugin().open(Role.SERVER, DEFAULT_LIMITS)
    for frame in reader.receive(recording.requests):
        if isinstance(frame, Head):
            message = frame.message
            assert isinstance(message, RequestHead)
            message = message.with_headers(message.headers.remove("content-length"))
            codec.send(Head(frame.stream_id, message, b"", True))
    return codec


def sides(recording: Recording) -> Iterator[tuple[Codec, bytes]]:
    """Return a fresh reader for each direction."""
    yield server(), recording.requests
    yield asker(recording), recording.responses


def take(codec: Codec, pieces: Sequence[bytes] | Iterator[bytes]) -> list[Frame]:
    """Read, consuming bodies as they come."""
    frames: list[Frame] = []
    for piece in pieces:
        got = codec.receive(piece)
        frames += got
        for frame in got:
            if isinstance(frame, Head | Data):
                codec.consumed(frame.stream_id, len(frame.data))
    return frames


def test_there_are_vectors() -> None:
    assert len(RECORDINGS) >= 14


@every_recording
def test_every_cut_gives_the_same(recording: Recording) -> None:
    for index in range(2):
        expected: object = None
        wire = b""
        for cut in (whole, byte_by_byte, at_random(1), at_random(2)):
            codec, wire = list(sides(recording))[index]
            got = normal_form(take(codec, cut(wire)))
            expected = expected or got
            assert got == expected
        assert not [event for event in got if event[0] == "violation"]
        for offset in range(0, len(wire), 7):
            codec, wire = list(sides(recording))[index]
            assert normal_form(take(codec, in_two(offset)(wire))) == expected


@every_recording
def test_frames_are_what_was_recorded(recording: Recording) -> None:
    for (codec, wire), way in zip(sides(recording), ("c2s", "s2c"), strict=True):
        frames = take(codec, [wire])
        told = [f for f in recording.frames if f["dir"] == way]
        bodies = sum(f["body_length"] for f in told if f["kind"] == "DATA")
        assert sum(len(f.data) for f in frames if isinstance(f, Head | Data)) == bodies
        blocks = [f for f in told if f["kind"] == "HEADERS"]
        got = [f for f in frames if isinstance(f, Head | Trailers)]
        for described, frame in zip(blocks, got, strict=True):
            assert described["id"] == frame.stream_id
            pseudo = {n: v for n, v in described["headers"] if n.startswith(":")}
            fields = tuple((n, v) for n, v in described["headers"] if n[0] != ":")
            if isinstance(frame, Trailers):
                assert frame.headers == Headers(fields)
                continue
            message = frame.message
            assert message.headers == Headers(fields)
            if isinstance(message, RequestHead):
                assert isinstance(message.extra, Target)
                assert message.service == pseudo[":authority"]
                assert message.method == pseudo[":method"]
                assert message.path == pseudo[":path"]
            elif not frame.interim:
                assert message.native_status == int(pseudo[":status"])
        resets = [f for f in told if f["kind"] == "RST_STREAM"]
        assert len([f for f in frames if isinstance(f, Reset)]) <= len(resets)


@every_recording
def test_what_was_read_is_written_so_that_it_reads_the_same(recording: Recording) -> None:
    """Also the independent decoder of `hpack` reads it."""
    (reader, requests), _ = sides(recording)
    got = [f for f in take(reader, [requests]) if isinstance(f, Head | Data | Trailers)]
    writer = Http2Plugin().open(Role.CLIENT, DEFAULT_LIMITS)
    wire = b"".join(writer.send(f) for f in got)
    again = [f for f in take(server(), [wire]) if isinstance(f, Head | Data | Trailers)]
    assert normal_form(again) == normal_form(got)
    decoder = hpack.Decoder()
    blocks = [decoder.decode(s.payload) for s in parse(wire) if s.kind == HEADERS]
    assert len(blocks) == len([f for f in got if isinstance(f, Head | Trailers)])


@every_recording
def test_a_connection_is_moved_at_every_frame(recording: Recording) -> None:
    for index, way in enumerate(("c2s", "s2c")):
        codec, wire = list(sides(recording))[index]
        expected = normal_form(take(codec, [wire]))
        cuts = [f["offset"] for f in recording.frames if f["dir"] == way] + [len(wire)]
        cuts += [offset + 5 for offset in cuts[:-1]]
        for offset in cuts:
            codec, wire = list(sides(recording))[index]
            before = take(codec, [wire[:offset]])
            moved = PLUGIN.restore(codec.snapshot(), codec.role, DEFAULT_LIMITS)
            assert isinstance(moved, ServerCodec | ClientCodec)
            assert normal_form([*before, *take(moved, [wire[offset:]])]) == expected
            took = take(codec, [wire[offset:]])
            assert normal_form([*before, *took]) == expected
            assert moved.snapshot() == codec.snapshot()


@every_recording
def test_the_same_connection_twice_comes_out_of_the_memory(recording: Recording) -> None:
    plugin = Http2Plugin()
    seen: list[list[object]] = []
    for _ in range(2):
        codec = plugin.open(Role.SERVER, DEFAULT_LIMITS)
        frames = codec.receive(recording.requests)
        seen.append([f.message for f in frames if isinstance(f, Head)])
    assert seen[0]
    assert all(a is b for a, b in zip(*seen, strict=True))


def test_raw_bytes_in_a_field_are_refused() -> None:
    """gRPC's setting FE03 allows them (``-bin`` fields without base64). We do not offer it: no client sends them."""
    gzip, unary = [r for r in recordings() if r.name in RAW]
    assert resets(server().receive(unary.requests)) == {1: ErrorCode.PROTOCOL_ERROR}
    assert resets(asker(gzip).receive(gzip.responses)) == {1: ErrorCode.PROTOCOL_ERROR}
    offered = [s.payload for s in parse(serving().greeting) if s.kind == SETTINGS]
    assert b"\xfe\x03" not in offered[0]
