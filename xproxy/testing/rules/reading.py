"""However the bytes are cut, and whatever they are."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import attrs

from xproxy.model.frames import Frame, Violation
from xproxy.model.limits import Limits
from xproxy.model.traits import Role
from xproxy.testing.reading import (
    Reader,
    Stream,
    at_random,
    byte_by_byte,
    in_two,
    read,
    whole,
)
from xproxy.testing.subject import Broken, Subject
from xproxy.testing.traffic import difference, ends, violations_in

_SMALL: Final = Limits(
    max_head_bytes=512, max_headers=8, max_target_bytes=128, max_message_bytes=1024, max_streams=4
)
_MUTANTS: Final = 250
"""Changed streams tried, over all streams."""
_GARBAGE: Final = 150
"""Random streams tried for each role."""
_EDGES: Final = (0, 1, 0x7F, 0x80, 0xFF, 0x0A, 0x0D, 0x20)


def readings(subject: Subject, streams: list[Stream]) -> None:
    """Whole, byte by byte, at random, with trailing bytes: the same frames."""
    for stream in streams:
        expected = read(subject, stream, whole)
        if crimes := violations_in(expected.frames):
            raise Broken(f"{stream.name}: valid traffic is a violation: {crimes[0]}", stream.data)
        if expected.refused:
            raise Broken(f"{stream.name}: send refuses the answer: {expected.refused[0]}")
        cuts: list[tuple[str, Callable[[bytes], Iterator[bytes]]]] = [
            ("byte by byte", byte_by_byte)
        ]
        cuts += [("in random pieces", at_random(seed)) for seed in range(8)]
        longest = max(len(segment) for segment in stream.segments)
        step = max(1, longest // 300)
        cuts += [(f"in two at {k}", in_two(k)) for k in range(1, longest, step)]
        for name, cut in cuts:
            got = read(subject, stream, cut)
            if got.events != expected.events:
                parting = difference(expected.events, got.events)
                raise Broken(f"{stream.name}, read {name}: {parting}", stream.data)


def purity(subject: Subject, streams: list[Stream]) -> None:
    """Two connections share nothing: interleaved, each gives what it gives alone."""
    for stream in streams:
        alone = read(subject, stream, at_random(0)).events
        readers = [Reader(subject, stream) for _ in range(2)]
        for index, segment in enumerate(stream.segments):
            for piece in at_random(0)(segment):
                for reader in readers:
                    reader.feed(piece)
            if index + 1 < len(stream.segments):
                for reader in readers:
                    reader.next_segment()
        for reader in readers:
            reader.feed(None)
            if reader.events != alone:
                parting = difference(alone, reader.events)
                raise Broken(f"{stream.name}: two connections disturb each other: {parting}")


def truncation(subject: Subject, streams: list[Stream]) -> None:
    """An end in the middle of a message never completes it: no well-formed lie."""
    if subject.traits.headless:
        return
    for stream in streams:
        first = stream.segments[0]
        step = max(1, len(first) // 400)
        for cut in range(0, len(first), step):
            reader = Reader(subject, stream)
            reader.look(first[:cut])
            before = sum(ends(frame) for frame in reader.frames)
            reader.look(None)
            if sum(ends(frame) for frame in reader.frames) > before:
                raise Broken(
                    f"{stream.name}: the end after {cut} bytes completes a message", first[:cut]
                )


def totality(subject: Subject, streams: list[Stream]) -> None:
    """No bytes whatever make ``receive`` raise; a Violation is the last frame, and ``()`` follows it."""
    chance = random.Random(2)  # noqa: S311  # it decides about test input only
    for stream in streams:
        for _ in range(_GARBAGE // len(streams) + 1):
            _survive(subject, stream, chance.randbytes(chance.randrange(1, 80)), chance.random())
    for _ in range(_MUTANTS):
        stream = chance.choice(streams)
        data = mutate(stream.segments[0], chance)
        _survive(subject, stream, data, chance.random())


def garbage_readings(subject: Subject, streams: list[Stream]) -> None:
    """Also what is wrong is found wrong in the same way however it is cut."""
    chance = random.Random(4)  # noqa: S311  # it decides about test input only
    for _ in range(_MUTANTS):
        stream = chance.choice(streams)
        data = mutate(stream.segments[0], chance)
        limits = chance.choice((_SMALL, Limits()))
        part = partial(parting, subject, stream, at_random(chance.randrange(1000)), limits)
        if part(data) is not None:
            data = shrink(data, part)
            raise Broken(f"{stream.name}, changed, whole and in pieces: {part(data)}", data)


def parting(
    subject: Subject,
    stream: Stream,
    cut: Callable[[bytes], Iterator[bytes]],
    limits: Limits,
    data: bytes,
) -> str | None:
    """Read ``data`` in the place of the stream, whole and cut; return where the two readings part, if they do."""
    changed = attrs.evolve(stream, segments=(data,))
    expected = read(subject, changed, whole, limits, patient=True).events
    got = read(subject, changed, cut, limits, patient=True).events
    return None if got == expected else difference(expected, got)


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Return ``data`` with one to four small changes."""
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(changed) + 1)
        match chance.randrange(6):
            case 0 if at < len(changed):
                changed[at] = chance.choice(_EDGES)
            case 1 if at < len(changed):
                changed[at] ^= 1 << chance.randrange(8)
            case 2:
                del changed[at : at + chance.randrange(1, 9)]
            case 3:
                changed[at:at] = chance.randbytes(chance.randrange(1, 9))
            case 4:
                changed[at:at] = changed[at : at + chance.randrange(1, 40)]
            case _:
                del changed[at:]
    return bytes(changed)


def _survive(subject: Subject, stream: Stream, data: bytes, choice: float) -> None:
    limits = _SMALL if choice < 0.5 else Limits()
    cut = whole if choice < 0.25 or choice > 0.75 else at_random(int(choice * 1000))

    def fails(candidate: bytes) -> str | None:
        return problem_with(subject, stream, candidate, limits, cut)

    problem = fails(data)
    if problem is not None:
        shrunk = shrink(data, lambda candidate: fails(candidate) == problem)
        raise Broken(f"as {stream.role.value}: {problem}", shrunk)


def problem_with(
    subject: Subject,
    stream: Stream,
    data: bytes,
    limits: Limits,
    cut: Callable[[bytes], Iterator[bytes]],
) -> str | None:
    """Return what is wrong with how the codec takes ``data``."""
    try:
        reader = Reader(subject, stream, limits)
        for piece in cut(data):
            reader.feed(piece)
        reader.feed(None)
        frames: tuple[object, ...] = tuple(reader.frames)
        for more in (b"", b"x", None):
            reader.look(more)
        after = tuple(reader.frames[len(frames) :])
    except Exception as exc:  # whatever comes out is the finding
        return f"receive raises {type(exc).__name__}"
    for index, frame in enumerate(frames):
        if not isinstance(frame, Frame):
            return f"receive gives a {type(frame).__name__}"
        if isinstance(frame, Violation) and index + 1 < len(frames):
            return "a frame follows a Violation"
    if frames and isinstance(frames[-1], Violation) and after:
        return "a frame follows a Violation"
    return None


def shrink(data: bytes, fails: Callable[[bytes], object]) -> bytes:
    """Return a shorter input that still fails, found in a bounded number of tries."""
    tries = 300
    size = len(data) // 2
    while size >= 1 and tries > 0:
        position = 0
        while position < len(data) and tries > 0:
            tries -= 1
            candidate = data[:position] + data[position + size :]
            if fails(candidate):
                data = candidate
            else:
                position += size
        size //= 2
    return data


def wrong_side(subject: Subject, streams: list[Stream]) -> None:
    """What a client sends is no answer: reading the wrong side's bytes is survived too."""
    for stream in streams:
        other = Role.CLIENT if stream.role is Role.SERVER else Role.SERVER
        turned = Stream(stream.name, other, stream.segments, ())
        if problem := problem_with(subject, turned, stream.data, Limits(), whole):
            raise Broken(f"{stream.name}, read by the wrong side: {problem}", stream.data)
