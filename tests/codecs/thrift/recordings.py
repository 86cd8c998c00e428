"""The recorded conversations, and ways to cut what was said."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from xproxy.codecs.api import Codec
from xproxy.model.frames import Frame, Head, Violation
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status

VECTORS = Path(__file__).parent / "vectors"


@attrs.frozen
class Said:
    """One message of a recording: its bytes, and what the describer says of it."""

    wire: bytes
    facts: dict[str, Any]  # Any: parsed JSON of our own files

    @property
    def kind(self) -> str:
        return str(self.facts["kind"])


@attrs.frozen
class Recording:
    """One connection: calls and answers, each in order."""

    name: str
    calls: list[Said]
    answers: list[Said]

    @property
    def asked(self) -> bytes:
        return b"".join(call.wire for call in self.calls)

    @property
    def told(self) -> bytes:
        return b"".join(answer.wire for answer in self.answers)


def _load(path: Path) -> Recording:
    recorded = json.loads(path.read_text())
    (connection,) = recorded["connections"]
    streams = {
        side: b"".join(
            bytes.fromhex(s["hex"])
            for s in connection["segments"]
            if s["dir"] == side and "hex" in s
        )
        for side in ("c2s", "s2c")
    }
    said: dict[str, list[Said]] = {"c2s": [], "s2c": []}
    for facts in connection["frames"]:
        start = facts["offset"]
        side = facts["dir"]
        said[side].append(Said(streams[side][start : start + facts["length"]], facts))
    return Recording(recorded["name"], said["c2s"], said["s2c"])


RECORDINGS = [_load(path) for path in sorted(VECTORS.glob("*.json"))]
PLAIN_OK = ResponseHead(status=Status.OK)


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """Cut in the four ways: not at all, everywhere, at random, and with the rest behind."""
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    chance = random.Random(1)
    for _ in range(5):
        pieces, at = [], 0
        while at < len(data):
            size = chance.choice((1, 2, 3, 7, 19, 50))
            pieces.append(data[at : at + size])
            at += size
        yield pieces
    for at in range(1, len(data), max(1, len(data) // 60)):
        yield [data[:at], data[at:]]


def read(codec: Codec, pieces: Sequence[bytes]) -> list[Frame]:
    """Let the codec read the pieces."""
    return [frame for piece in pieces for frame in codec.receive(piece)]


def heads(frames: Sequence[Frame]) -> list[Head]:
    """Return the frames, which must all be heads of whole messages."""
    found = [frame for frame in frames if isinstance(frame, Head) and frame.end]
    assert len(found) == len(frames), frames
    return found


def only(frames: Sequence[Frame]) -> Head:
    """Return the one frame, a whole message."""
    (frame,) = heads(frames)
    return frame


def request_of(head: Head) -> RequestHead:
    assert isinstance(head.message, RequestHead)
    return head.message


def response_of(head: Head) -> ResponseHead:
    assert isinstance(head.message, ResponseHead)
    return head.message


def violation(frames: Sequence[Frame]) -> str:
    """Return what the last frame complains about."""
    last = frames[-1]
    assert isinstance(last, Violation), frames
    return last.detail
