"""Streams of bytes that a codec must understand, and the ways to read them.

A ``Reader`` behaves as a connection does: as a server it answers each request when it is complete, as a client it
sends the requests that the recorded responses answer. Thus the codec goes through all its states, in every reading.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import attrs

from xproxy.codecs.api import Codec, SupportsFlow
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Data, Frame, Head, Reset, Trailers, Violation
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS, Limits
from xproxy.model.message import RequestHead
from xproxy.model.traits import Role, Sharing
from xproxy.testing.pair import Pair
from xproxy.testing.received import received
from xproxy.testing.subject import Subject
from xproxy.testing.traffic import Event, ends, normal_form

Exchange = tuple[tuple[Frame, ...], tuple[Frame, ...]]
"""The frames of a request and of its response; the latter empty for oneway."""

FIELD: Final = Headers((("x-after", "1"),))
"""Trailers of the kit's own messages."""


@attrs.frozen
class Stream:
    """What one side of a conversation sent, and what the reader has to say in it."""

    name: str
    role: Role
    """Who reads it."""
    segments: tuple[bytes, ...]
    """A serial client reads one response for each request it sends, so there is one segment for each."""
    requests: tuple[tuple[Frame, ...], ...] = ()
    """As a client: what to send before each segment; if there is one segment, all of it first."""

    @property
    def data(self) -> bytes:
        return b"".join(self.segments)


class Reader:
    """A codec, driven as a connection would drive it."""

    def __init__(
        self,
        subject: Subject,
        stream: Stream,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.subject = subject
        self.stream = stream
        self.limits = limits
        self.codec: Codec = subject.open(stream.role, limits)
        self.frames: list[Frame] = []
        self.refused: list[str] = []
        """What we could not answer, as our own codec refused to send it."""
        self._owed: list[int] = []
        self._oneway: set[int] = set()
        self._tunnels: set[int] = set()
        self._segment = 0
        self._take(received(self.codec, b""))
        if stream.role is Role.CLIENT:
            self._ask()

    @property
    def violated(self) -> bool:
        return bool(self.frames) and isinstance(self.frames[-1], Violation)

    @property
    def events(self) -> list[Event]:
        return normal_form(self.frames)

    def feed(self, data: bytes | None) -> None:
        """Let the codec receive ``data``, then do what a connection does about it."""
        self.look(data)
        self.act()

    def look(self, data: bytes | None) -> None:
        """Receive only; what is to be done about it waits for ``act``."""
        self._take(received(self.codec, data))

    def act(self) -> None:
        """Answer what is complete, ask for what was held back, until nothing is left to do."""
        while self._owed and not self.violated:
            stream_id = self._owed.pop(0)
            if stream_id not in self._oneway:
                self._send(*self._answer(stream_id))
            self._oneway.discard(stream_id)
            self._take(received(self.codec, b""))

    def next_segment(self) -> None:
        """A serial client has its response and sends the next request."""
        self._segment += 1
        if self.stream.role is Role.CLIENT and not self.violated:
            self._ask()

    def _answer(self, stream_id: int) -> Sequence[Frame]:
        if self.subject.traits.headless:
            return (Head(stream_id, self.subject.response), Data(stream_id, b"", end=True))
        return (Head(stream_id, self.subject.response, b"", end=True),)

    def _ask(self) -> None:
        requests = self.stream.requests
        if len(self.stream.segments) > 1:
            requests = requests[self._segment : self._segment + 1]
        for request in requests:
            self._send(*request)
        self._take(received(self.codec, b""))

    def _send(self, *frames: Frame) -> None:
        for frame in frames:
            try:
                self.codec.send(frame)
            except LocalProtocolError as exc:
                self.refused.append(str(exc))
                return

    def _take(self, frames: Sequence[Frame]) -> None:
        self.frames += frames
        serves = self.stream.role is Role.SERVER
        for frame in frames:
            if isinstance(frame, Reset) and frame.stream_id in self._owed:
                self._owed.remove(frame.stream_id)
            if not isinstance(frame, Head | Data | Trailers):
                continue
            if isinstance(frame, Head) and _is_oneway(frame):
                self._oneway.add(frame.stream_id)
            if isinstance(self.codec, SupportsFlow) and not isinstance(frame, Trailers):
                self.codec.consumed(frame.stream_id, len(frame.data))
            if serves and _asks_for_tunnel(frame):
                # As a connection does: what is sent behind the wish is looked at once it is granted or refused.
                self._owed.append(frame.stream_id)
                self._tunnels.add(frame.stream_id)
            elif serves and ends(frame) and frame.stream_id not in self._tunnels:
                self._owed.append(frame.stream_id)


def _asks_for_tunnel(frame: Frame) -> bool:
    return (
        isinstance(frame, Head)
        and isinstance(frame.message, RequestHead)
        and frame.message.tunnel
        and not frame.end
    )


def _is_oneway(head: Head) -> bool:
    return isinstance(head.message, RequestHead) and head.message.oneway


def read(
    subject: Subject,
    stream: Stream,
    cut: Callable[[bytes], Iterator[bytes]],
    limits: Limits = DEFAULT_LIMITS,
    *,
    patient: bool = False,
) -> Reader:
    """Read a whole stream, each segment in the pieces that ``cut`` makes of it, then its end.

    ``patient``: answer only when all is read. For streams that may use an id again while it is in flight, which a
    codec may refuse: else it would depend on the cut whether the answer comes in time.
    """
    reader = Reader(subject, stream, limits)
    feed = reader.look if patient and subject.sharing is not Sharing.SERIAL else reader.feed
    for index, segment in enumerate(stream.segments):
        if index:
            reader.next_segment()
        for piece in cut(segment):
            feed(piece)
    reader.act()
    reader.feed(None)
    return reader


def whole(data: bytes) -> Iterator[bytes]:
    """Cut nothing."""
    yield data


def byte_by_byte(data: bytes) -> Iterator[bytes]:
    """Cut everywhere."""
    return (data[i : i + 1] for i in range(len(data)))


def at_random(seed: int) -> Callable[[bytes], Iterator[bytes]]:
    """Cut at random places, the same in every run."""

    def cut(data: bytes) -> Iterator[bytes]:
        chance = random.Random(seed)  # noqa: S311  # it decides about test input only
        position = 0
        while position < len(data):
            size = chance.choice((1, 2, 3, 5, 8, 21, 55, 233))
            yield data[position : position + size]
            position += size

    return cut


def in_two(offset: int) -> Callable[[bytes], Iterator[bytes]]:
    """Cut once: the trailing bytes come later."""

    def cut(data: bytes) -> Iterator[bytes]:
        yield data[:offset]
        yield data[offset:]

    return cut


def exchanges(subject: Subject) -> list[tuple[str, list[Exchange]]]:
    """Return conversations that take a codec through what its traits promise."""
    if subject.traits.headless:
        asked = (
            Head(1, subject.request),
            Data(1, b"first\r\n\0\xff"),
            Data(1, b"second"),
            Data(1, b"", end=True),
        )
        answered = (Head(1, subject.response), Data(1, b"answer"), Data(1, b"", end=True))
        return [("bytes both ways", [(asked, answered)])]
    found = [("whole messages", _whole_messages(subject))]
    if subject.streams_bodies:
        found.append(("bodies in pieces", _pieces(subject)))
    if subject.traits.oneway:
        found.append(("oneway", _oneway(subject)))
    return found


def _whole_messages(subject: Subject) -> list[Exchange]:
    bodies = (b"", b"a body", bytes(range(256)))
    return [
        (
            (Head(i, subject.request, body, end=True),),
            (Head(i, subject.response, body[::-1], end=True),),
        )
        for i, body in zip(subject.ids(len(bodies)), bodies, strict=True)
    ]


def _pieces(subject: Subject) -> list[Exchange]:
    first, second = subject.ids(2)
    last: tuple[Frame, Frame] = (Data(first, b"", end=True), Data(first, b"", end=True))
    if subject.traits.trailers:
        last = (Trailers(first, FIELD), Trailers(first, FIELD))
    pieces = (b"one ", b"two\r\n\r\n", bytes(300))
    return [
        (
            (Head(first, subject.request), *(Data(first, p) for p in pieces), last[0]),
            (Head(first, subject.response), *(Data(first, p) for p in pieces), last[1]),
        ),
        (
            (Head(second, subject.request, b"", end=True),),
            (Head(second, subject.response), Data(second, b"all", end=True)),
        ),
    ]


def _oneway(subject: Subject) -> list[Exchange]:
    first, second = subject.ids(2)
    oneway = attrs.evolve(subject.request, oneway=True)
    return [
        ((Head(first, oneway, b"nobody waits", end=True),), ()),
        (
            (Head(second, subject.request, b"", end=True),),
            (Head(second, subject.response, b"", end=True),),
        ),
    ]


def record(subject: Subject) -> list[Stream]:
    """Hold the conversations and return the streams of both directions, and those of the samples."""
    streams = []
    for name, conversation in exchanges(subject):
        streams += _record(subject, name, conversation)
    for index, recorded in enumerate(subject.samples.recorded):
        streams.append(Stream(f"recorded[{index}]", Role.SERVER, (recorded,)))
    return streams


def _record(subject: Subject, name: str, conversation: list[Exchange]) -> list[Stream]:
    pair = Pair(subject)
    client, server = pair.client, pair.server
    segments: list[bytes] = []
    asked = tuple(request for request, _ in conversation)
    if subject.sharing is Sharing.SERIAL:
        for request, response in conversation:
            pair.send(client, *request)
            mark = len(server.sent)
            pair.send(server, *response)
            segments.append(bytes(server.sent[mark:] if segments else server.sent))
    else:
        for request in asked:
            pair.send(client, *request)
        for _, response in reversed(conversation):  # answers may overtake each other
            pair.send(server, *response)
        segments.append(bytes(server.sent))
    return [
        Stream(f"{name}, to the server", Role.SERVER, (bytes(client.sent),)),
        Stream(f"{name}, to the client", Role.CLIENT, tuple(segments), asked),
    ]
