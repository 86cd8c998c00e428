"""Recorded traffic of curl 7.88.1 and Node 20.20.2, read in every cut, written again, and moved at every byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.codecs.http1.driving import (
    Answering,
    Event,
    asking,
    cuts,
    events,
    read,
    served,
    server,
    without_framing,
)
from xproxy.codecs.http1.client import ClientCodec
from xproxy.codecs.http1.plugin import PLUGIN
from xproxy.codecs.http1.server import ServerCodec
from xproxy.model.frames import Data, Head, Trailers
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.traits import Role

VECTORS = sorted((Path(__file__).parent / "vectors").glob("*.json"))
OF_THE_HOP = {
    "host",
    "connection",
    "keep-alive",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
}


@attrs.frozen
class Recorded:
    """One message of a vector."""

    wire: bytes
    start_line: str
    headers: Headers
    body_length: int
    trailers: Headers


@attrs.frozen
class Recording:
    """One connection of a vector: each request with its response and what came before that."""

    name: str
    exchanges: list[tuple[Recorded, list[Recorded]]]

    @property
    def requests(self) -> bytes:
        return b"".join(asked.wire for asked, _ in self.exchanges)


# Any: parsed JSON of our own files
def _message(frame: dict[str, Any], streams: dict[str, bytes]) -> Recorded:
    start = frame["offset"]
    trailers = [line.split(": ", 1) for line in frame.get("trailers", [])]
    return Recorded(
        wire=streams[frame["dir"]][start : start + frame["length"]],
        start_line=frame["start_line"],
        headers=Headers(
            tuple(pair) for pair in frame["headers"] if pair[0].lower() not in OF_THE_HOP
        ),
        body_length=frame["body_length"],
        trailers=Headers((name, value) for name, value in trailers),
    )


def _load(path: Path) -> list[Recording]:
    vector = json.loads(path.read_text())
    recordings = []
    for connection in vector["connections"]:
        streams = {
            direction: b"".join(
                bytes.fromhex(s["hex"])
                for s in connection["segments"]
                if s["dir"] == direction and "hex" in s
            )
            for direction in ("c2s", "s2c")
        }
        messages = [f for f in connection["frames"] if "start_line" in f]
        answers = [_message(f, streams) for f in messages if f["dir"] == "s2c"]
        exchanges: list[tuple[Recorded, list[Recorded]]] = []
        for frame in messages:
            if frame["dir"] == "c2s":
                given = [answers.pop(0)]
                while given[-1].start_line.split(" ")[1].startswith("1"):
                    given.append(answers.pop(0))
                exchanges.append((_message(frame, streams), given))
        recordings.append(Recording(vector["name"], exchanges))
    return recordings


RECORDINGS = [recording for path in VECTORS for recording in _load(path)]
every_recording = pytest.mark.parametrize(
    "recording", RECORDINGS, ids=[recording.name for recording in RECORDINGS]
)


def _body_of(found: list[Event]) -> int:
    bodies = [event[1] for event in found if event[0] == "body"]
    return sum(len(body) for body in bodies if isinstance(body, bytes))


def _trailers_of(found: list[Event]) -> list[object]:
    return [event[1] for event in found if event[0] == "trailers"]


def test_there_are_vectors() -> None:
    assert len(RECORDINGS) >= 11


@every_recording
def test_requests_are_read_in_every_cut(recording: Recording) -> None:
    for pieces in cuts(recording.requests):
        found = served(pieces).events
        heads = [event[1] for event in found if event[0] == "head"]
        for (recorded, _), head in zip(recording.exchanges, heads, strict=True):
            assert isinstance(head, RequestHead)
            assert recorded.start_line == f"{head.method} {head.path} HTTP/1.1"
            assert head.headers == recorded.headers
            assert head.service == recorded.wire.split(b"Host: ")[1].split(b"\r\n")[0].decode()
        assert _body_of(found) == sum(recorded.body_length for recorded, _ in recording.exchanges)
        assert not [event for event in found if event[0] in ("violation", "goaway")]


@every_recording
def test_responses_are_read_in_every_cut(recording: Recording) -> None:
    for asked, answers in recording.exchanges:
        method = asked.start_line.split(" ")[0]
        wire = b"".join(answer.wire for answer in answers)
        for pieces in cuts(wire):
            codec = asking(method)
            found = read(codec, [*pieces, None])
            heads = [event[1] for event in found if event[0] in ("head", "interim")]
            for recorded, head in zip(answers, heads, strict=True):
                assert isinstance(head, ResponseHead)
                assert head.native_status == int(recorded.start_line.split(" ")[1])
                assert head.headers == recorded.headers
            assert _body_of(found) == answers[-1].body_length
            assert _trailers_of(found) == [a.trailers for a in answers if a.trailers]
            assert not [event for event in found if event[0] == "violation"]
            closes = b"\r\nConnection: close\r\n" in answers[-1].wire
            assert (found[-1] == ("goaway",)) == closes


@every_recording
def test_what_follows_a_response_unasked_is_a_violation(recording: Recording) -> None:
    for asked, answers in recording.exchanges:
        if b"\r\nConnection: close\r\n" in answers[-1].wire:
            continue
        for extra in (b"\n", answers[-1].wire):
            codec = asking(asked.start_line.split(" ")[0])
            found = read(codec, [b"".join(a.wire for a in answers) + extra])
            assert found[-1][0] == "violation"
            assert ("end",) in found or _trailers_of(found)


@every_recording
def test_what_was_read_is_written_so_that_it_reads_the_same(recording: Recording) -> None:
    for asked, answers in recording.exchanges:
        frames = server().receive(asked.wire)
        client = PLUGIN.open(Role.CLIENT, DEFAULT_LIMITS)
        written = b"".join(client.send(frame) for frame in frames)
        assert without_framing(server().receive(written)) == without_framing(frames)
        plain = "upgrade" not in asked.wire.decode("latin-1").lower()
        if asked.start_line.startswith("GET") and plain:
            assert written == asked.wire

        codec = server()
        codec.receive(asked.wire)
        read_back = asking(asked.start_line.split(" ")[0])
        received = asking(asked.start_line.split(" ")[0])
        got = [f for answer in answers for f in received.receive(answer.wire)]
        got += received.receive(None)
        passed = [f for f in got if isinstance(f, Head | Data | Trailers)]
        again = read_back.receive(b"".join(codec.send(f) for f in passed))
        assert without_framing(again) == without_framing(passed)


@every_recording
def test_a_server_is_moved_at_every_byte(recording: Recording) -> None:
    wire = recording.requests
    expected = served([wire])
    for offset in range(len(wire) + 1):
        side = Answering(server())
        side.feed(wire[:offset])
        moved = PLUGIN.restore(side.codec.snapshot(), Role.SERVER, DEFAULT_LIMITS)
        assert isinstance(moved, ServerCodec)
        side.codec = moved
        side.feed(wire[offset:])
        assert side.events == expected.events
        assert side.sent == expected.sent


@every_recording
def test_a_client_is_moved_at_every_byte(recording: Recording) -> None:
    for asked, answers in recording.exchanges:
        method = asked.start_line.split(" ")[0]
        wire = b"".join(answer.wire for answer in answers)
        expected = read(asking(method), [wire, None])
        for offset in range(len(wire) + 1):
            codec = asking(method)
            before = codec.receive(wire[:offset])
            moved = PLUGIN.restore(codec.snapshot(), Role.CLIENT, DEFAULT_LIMITS)
            assert isinstance(moved, ClientCodec)
            after = [*moved.receive(wire[offset:]), *moved.receive(None)]
            assert events([*before, *after]) == expected
