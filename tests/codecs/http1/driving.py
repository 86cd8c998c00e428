"""Drive http1 codecs in tests: cut what they read, answer what they ask, compare in events that no cut changes."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import attrs

from tests.alive import parts
from xproxy.codecs.http1.chunked import ChunkReader
from xproxy.codecs.http1.client import ClientCodec
from xproxy.codecs.http1.memory import HeadMemory
from xproxy.codecs.http1.plugin import PLUGIN
from xproxy.codecs.http1.server import ServerCodec
from xproxy.codecs.http1.snapshot import SCHEMA
from xproxy.codecs.http1.state import STATES
from xproxy.model.frames import Data, Frame, GoAway, Head, Trailers, Violation
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS, Limits
from xproxy.model.message import RequestHead, ResponseHead, Target
from xproxy.model.status import Status

Event: TypeAlias = tuple[object, ...]
Http1: TypeAlias = ServerCodec | ClientCodec

OK = ResponseHead(status=Status.OK, native_status=200)
ANSWER = Head(1, OK, b"done", end=True)
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def server(limits: Limits = DEFAULT_LIMITS, *, memory: HeadMemory | None = None) -> ServerCodec:
    """Open a server with a memory of its own."""
    return ServerCodec(limits, HeadMemory() if memory is None else memory)


def client(limits: Limits = DEFAULT_LIMITS) -> ClientCodec:
    """Open a client with a memory of its own."""
    return ClientCodec(limits, HeadMemory())


def request(
    method: str = "GET",
    path: str = "/",
    headers: Iterable[tuple[str, str]] = (),
    *,
    service: str = "a",
) -> RequestHead:
    """Make a request head."""
    return RequestHead(
        service=service, method=method, headers=Headers(headers), extra=Target(path=path)
    )


def response(code: int = 200, headers: Iterable[tuple[str, str]] = ()) -> ResponseHead:
    """Make a response head."""
    return ResponseHead(status=PLUGIN.status_of(code), native_status=code, headers=Headers(headers))


def asking(method: str = "GET", path: str = "/", limits: Limits = DEFAULT_LIMITS) -> ClientCodec:
    """Open a client that awaits the response to a request without a body."""
    codec = client(limits)
    codec.send(Head(1, request(method, path), b"", end=True))
    return codec


def asked(wire: bytes = GET, limits: Limits = DEFAULT_LIMITS) -> ServerCodec:
    """Open a server that owes the response to ``wire``."""
    codec = server(limits)
    codec.receive(wire)
    return codec


def _pieces_of(frame: Frame) -> Iterator[Event]:
    match frame:
        case Head(message=message, data=data, end=end, interim=interim):
            yield ("interim" if interim else "head", message)
            if data:
                yield ("body", data)
            if end:
                yield ("end",)
        case Data(data=data, end=end):
            assert data or end, "an empty Data that ends nothing"
            if data:
                yield ("body", data)
            if end:
                yield ("end",)
        case Trailers(headers=headers):
            yield ("trailers", headers)
        case GoAway():
            yield ("goaway",)
        case Violation(detail=detail, farewell=farewell):
            yield ("violation", detail, farewell)
        case _:
            raise AssertionError(f"a frame http1 never gives: {frame!r}")


def events(frames: Iterable[Frame]) -> list[Event]:
    """Return what the frames say, however bodies are cut."""
    found: list[Event] = []
    for frame in frames:
        for event in _pieces_of(frame):
            if event[0] == "body" and found and found[-1][0] == "body":
                found[-1] = ("body", found[-1][1] + event[1])  # type: ignore[operator]  # both are bytes
            else:
                found.append(event)
    return found


def cuts(wire: bytes, seed: int = 7) -> Iterator[list[bytes]]:
    """Cut ``wire`` in several ways: whole, every byte by itself, and three times at random."""
    yield [wire]
    yield [wire[i : i + 1] for i in range(len(wire))]
    rng = random.Random(seed)  # the same cuts in every run
    for _ in range(3):
        points = sorted(rng.sample(range(len(wire) + 1), min(len(wire), 1 + rng.randrange(6))))
        yield [wire[a:b] for a, b in zip([0, *points], [*points, len(wire)], strict=True)]


def possible(codec: Http1) -> bool:
    """Tell whether the table of states knows the codec's state."""
    state = SCHEMA.unpack(codec.snapshot())
    return state.writing in STATES[codec.role][state.reading]


def kept(codec: Http1) -> list[object]:
    """Return what it keeps for bytes to come; an idle connection has nothing of it."""
    return [*parts(codec, bytearray), *parts(codec, ChunkReader)]


class Answering:
    """A server codec whose requests are answered as soon as they are complete."""

    def __init__(self, codec: ServerCodec, answer: Sequence[Frame] = (ANSWER,)) -> None:
        self.codec = codec
        self.answer = answer
        self.frames: list[Frame] = []
        self.sent = b""

    def feed(self, data: bytes | None) -> None:
        """Hand bytes to the codec, and answer."""
        got = list(self.codec.receive(data))
        while got:
            assert possible(self.codec)
            self.frames += got
            if _ends(got[-1]):
                for frame in self.answer:
                    self.sent += self.codec.send(frame)
                    assert possible(self.codec)
            elif isinstance(got[-1], Violation):
                self.sent += got[-1].farewell
            got = list(self.codec.receive(b""))

    @property
    def events(self) -> list[Event]:
        """What was received."""
        return events(self.frames)


def _ends(frame: Frame) -> bool:
    return isinstance(frame, Trailers) or (isinstance(frame, Head | Data) and frame.end)


def served(pieces: Iterable[bytes | None], limits: Limits = DEFAULT_LIMITS) -> Answering:
    """Let a server read ``pieces`` and answer every request."""
    side = Answering(server(limits))
    for piece in pieces:
        side.feed(piece)
    return side


def read(codec: Http1, pieces: Iterable[bytes | None]) -> list[Event]:
    """Return the events of a codec that nobody answers."""
    frames: list[Frame] = []
    for piece in pieces:
        frames += codec.receive(piece)
        assert possible(codec)
    return events(frames)


def without_framing(frames: Iterable[Frame]) -> list[Event]:
    """Return the events of a message, with heads that do not say how its body is framed: that each hop decides."""
    found: list[Event] = []
    for event in events(frames):
        message = event[1] if len(event) > 1 else None
        if isinstance(message, RequestHead | ResponseHead):
            headers = message.headers.remove("content-length", "trailer")
            found.append((event[0], attrs.evolve(message, headers=headers)))
        elif event != ("goaway",):
            found.append(event)
    return found
