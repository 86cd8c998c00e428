"""Nothing a peer sends makes a codec hold, or compute, more than its bounds."""

from __future__ import annotations

import gc
import math
import time
import tracemalloc
from collections.abc import Callable, Mapping
from typing import Final

import attrs

from xproxy.codecs.api import Codec, SupportsConcurrency, SupportsFlow
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Data, Head, Reply, Violation
from xproxy.model.headers import Headers
from xproxy.model.limits import KIB, MIB, Limits
from xproxy.model.traits import Role, Sharing
from xproxy.testing.reading import Reader, Stream
from xproxy.testing.received import received
from xproxy.testing.subject import Broken, Subject
from xproxy.testing.traffic import greet, replies_in

_SMALL: Final = Limits(
    max_head_bytes=4 * KIB, max_message_bytes=8 * KIB, max_target_bytes=1 * KIB, max_headers=20
)
_WIDE: Final = Limits(
    max_head_bytes=4 * MIB,
    max_message_bytes=16 * MIB,
    max_target_bytes=1 * MIB,
    max_headers=100_000,
    max_streams=100_000,
)
_HELD: Final = 256 * KIB
"""What a codec with ``_SMALL`` limits may have allocated while a peer pours bytes into it."""
_GROWTH: Final = 8.0
"""Four times the input may take so many times as long: 4 is linear, 16 quadratic, and this as far from either."""
_ATTEMPTS: Final = 8
"""How often both are measured, in turn. A busy machine is not the codec's fault: what it takes away comes and goes,
and what is quadratic is so every time. So the least of each counts, or two one after the other: a processor that is
slow for a while is so for both."""


def _wire(subject: Subject, head: Head, limits: Limits = _WIDE) -> bytes | None:
    """Return what a client sends for ``head``, or None where the protocol cannot say it."""
    client = subject.open(Role.CLIENT, limits)
    greeting = greet(client, subject.open(Role.SERVER, limits))
    try:
        return greeting + client.send(head)
    except LocalProtocolError:
        return None


def _reader(subject: Subject, limits: Limits) -> Reader:
    return Reader(subject, Stream("bounds", Role.SERVER, (b"",)), limits)


def _refused(subject: Subject, reader: Reader) -> bool:
    """Whether the peer was refused: the connection ended, or a message that fails alone was answered."""
    return reader.violated or (
        subject.traits.sharing is Sharing.MESSAGES
        and any(isinstance(frame, Reply) for frame in reader.frames)
    )


def declared_length(subject: Subject) -> None:
    """A message that comes whole, but above the limit, is refused as soon as its length is known."""
    if subject.streams_bodies:
        return
    size = 16 * _SMALL.max_message_bytes
    wire = _wire(subject, Head(1, subject.request, bytes(size), end=True))
    if wire is None:
        raise Broken(
            f"a client cannot send a body of {size} bytes, limit {_WIDE.max_message_bytes}"
        )
    reader = _reader(subject, _SMALL)
    head_size = len(wire) - size
    for index in range(len(wire)):
        reader.feed(wire[index : index + 1])
        if _refused(subject, reader):
            return
        if any(isinstance(f, Head) for f in reader.frames):
            raise Broken(f"a message of {size} bytes passes a limit of {_SMALL.max_message_bytes}")
        if index > head_size + 16:
            break
    raise Broken(
        f"a message that declares {size} bytes, limit {_SMALL.max_message_bytes}, is not refused"
        f" though {index} bytes of it are there",
        wire[:index],
    )


def long_heads(subject: Subject) -> None:
    """A head above the limit is refused, and not much more than four times the limit is read before.

    It may be read so far where its neighbours could not be understood otherwise (HTTP/2).
    """
    if subject.traits.headless or not subject.request.headers:
        return
    head = attrs.evolve(subject.request, headers=Headers((("x-long", "v" * (24 * KIB)),)))
    wire = _wire(subject, Head(1, head, b"", end=True))
    if wire is None:
        return
    reader = _reader(subject, _SMALL)
    for index in range(0, len(wire), 64):
        reader.feed(wire[index : index + 64])
        if _refused(subject, reader):
            break
    bound = 4 * max(_SMALL.max_head_bytes, _SMALL.max_message_bytes) + 1 * KIB
    if not _refused(subject, reader):
        raise Broken(f"a head of {len(wire)} bytes passes a limit of {_SMALL.max_head_bytes}")
    if index > bound:
        raise Broken(f"{index} bytes of a head are read, limit {_SMALL.max_head_bytes}", wire[:256])


def memory(subject: Subject, streams: list[Stream]) -> None:
    """Whatever goes on without end is not kept."""
    for stream in streams:
        data = stream.segments[0]
        offsets = sorted({*range(0, len(data), max(1, len(data) // 8)), min(1, len(data))})
        for offset in offsets:
            for filler in (b"\0", b"a", b"\xff", b"\r\n", data[:offset][-8:] or b"1"):
                held = _pour(subject, stream, data[:offset], filler)
                if held > _HELD:
                    raise Broken(
                        f"{stream.name}, cut at {offset}, then 1 MiB of {filler!r}: holds"
                        f" {held} bytes, more than {_HELD}",
                        data[:offset],
                    )


def _pour(subject: Subject, stream: Stream, prefix: bytes, filler: bytes) -> int:
    """Return the bytes held after a mebibyte of ``filler``; frames are let go at once."""
    reader = Reader(subject, stream, _SMALL)
    codec = reader.codec
    piece = filler * (16 * KIB // len(filler))
    tracemalloc.start()
    try:
        start = tracemalloc.get_traced_memory()[0]
        codec.receive(prefix)
        for _ in range(64):
            # A copy each time, or bytes that are kept whole would count only once.
            frames = received(codec, bytes(bytearray(piece)))
            if frames and isinstance(frames[-1], Violation):
                break
        del frames
        held = tracemalloc.get_traced_memory()[0] - start
        if held > _HELD:
            gc.collect()
            held = tracemalloc.get_traced_memory()[0] - start
        return held
    finally:
        tracemalloc.stop()


def streamed_body(subject: Subject) -> None:
    """A body in pieces passes through and is not kept, however long it is."""
    if not subject.streams_bodies:
        return
    client, server = subject.open(Role.CLIENT, _SMALL), subject.open(Role.SERVER, _SMALL)
    client.receive(replies_in(server.receive(greet(client, server))))
    server.receive(client.send(Head(1, subject.request)))
    piece = bytes(16 * KIB)
    arrived = 0
    tracemalloc.start()
    try:
        for _ in range(64):
            arrived += _through(client, server, bytes(bytearray(piece)))
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    if arrived < 63 * len(piece):
        raise Broken(f"of a body of 1 MiB only {arrived} bytes come out while it is sent")
    if held > _HELD:
        raise Broken(f"{held} bytes are held after a streamed body, more than {_HELD}")


def _through(client: Codec, server: Codec, piece: bytes) -> int:
    """Send a piece of a body as the window allows; return how much of it came out."""
    arrived = 0
    while piece:
        room = client.sendable(1) if isinstance(client, SupportsFlow) else len(piece)
        if room <= 0:
            raise Broken("the window is shut, though the peer has consumed everything")
        for frame in server.receive(client.send(Data(1, piece[:room]))):
            if isinstance(frame, Violation):
                raise Broken(f"a body of 1 MiB in pieces is refused: {frame.detail}")
            if isinstance(frame, Data | Head):
                arrived += len(frame.data)
                if isinstance(server, SupportsFlow):
                    client.receive(server.consumed(1, len(frame.data)))
            elif isinstance(frame, Reply) and frame.data:
                client.receive(frame.data)
        piece = piece[room:]
    return arrived


def linear_time(subject: Subject) -> None:
    """Four times the bytes take about four times as long, cut into single bytes or all at once."""
    for name, make in _LOADS.items():
        small, large = make(subject, 1), make(subject, 4)
        if small is None or large is None:
            continue
        least = most = math.inf
        for _ in range(_ATTEMPTS):
            before = _cost(subject, small)
            after = _cost(subject, large, 1.5 * _GROWTH * before)
            least, most = min(least, before), min(most, after)
            if most <= _GROWTH * least or after <= _GROWTH * before:
                break
        else:
            raise Broken(f"{name}: four times the bytes take {most / least:.0f} times as long")


Load = tuple[bytes, bool]
"""What a server reads, and whether byte by byte."""


def _one_body(subject: Subject, factor: int) -> Load | None:
    wire = _wire(subject, Head(1, subject.request, bytes(16 * KIB * factor), end=True))
    return None if wire is None else (wire, True)


def _one_head(subject: Subject, factor: int) -> Load | None:
    if not subject.request.headers:
        return None
    # As large as the protocol lets it be: Bolt has 15 bits for the length, others no bound but ours.
    for size in (64 * KIB, 6 * KIB):
        heads = [
            attrs.evolve(subject.request, headers=Headers((("x-long", "v" * (size * times)),)))
            for times in (factor, 4)
        ]
        wires = [_wire(subject, Head(1, head, b"", end=True)) for head in heads]
        if None not in wires and wires[0] is not None:
            return wires[0], True
    return None


def _many_messages(subject: Subject, factor: int) -> Load | None:
    if subject.traits.headless:
        return None
    clients = subject.open(Role.CLIENT, _WIDE)
    greeting = greet(clients, subject.open(Role.SERVER, _WIDE))
    if subject.sharing is Sharing.SERIAL:
        one = _wire(subject, Head(1, subject.request, b"x", end=True))
        return None if one is None else (one * (2000 * factor), False)
    wire = [greeting]
    for id_ in subject.ids(2000 * factor):
        if isinstance(clients, SupportsConcurrency) and clients.saturated:
            return None  # by its own options it never has so many to read at a time
        wire.append(clients.send(Head(id_, subject.request, b"x", end=True)))
    return b"".join(wire), False


def _many_pieces(subject: Subject, factor: int) -> Load | None:
    client = subject.open(Role.CLIENT, _WIDE)
    if not subject.streams_bodies or isinstance(client, SupportsFlow):
        return None
    greeting = greet(client, subject.open(Role.SERVER, _WIDE))
    head = client.send(Head(1, subject.request))
    pieces = (client.send(Data(1, b"x")) for _ in range(8000 * factor))
    return greeting + head + b"".join(pieces), False


_LOADS: Final[Mapping[str, Callable[[Subject, int], Load | None]]] = {
    "a body, byte by byte": _one_body,
    "a head, byte by byte": _one_head,
    "many messages in one read": _many_messages,
    "many pieces of a body in one read": _many_pieces,
}


def _cost(subject: Subject, load: Load, most: float = math.inf) -> float:
    """Return the CPU seconds a server needs to read ``load``, its answers included. Gives up after ``most``."""
    data, singly = load
    reader = _reader(subject, _WIDE)
    pieces = [data[i : i + 1] for i in range(len(data))] if singly else [data]
    gc.collect()
    gc.disable()  # what the collector costs depends on everything else that lives
    try:
        start = time.thread_time()
        for index, piece in enumerate(pieces):
            reader.look(piece)
            if index % 1024 == 0 and time.thread_time() - start > most:
                break
        reader.act()
        return max(time.thread_time() - start, 1e-6)
    finally:
        gc.enable()
