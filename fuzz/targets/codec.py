"""Invariant: any bytes, cut anywhere and moved to another process at any byte, give the same frames and no exception.

Also: a Violation is the last frame, detection of the same bytes is total and monotone, and ``restore`` of any bytes
raises ValueError or gives a codec that reads anything.

The first four bytes choose: which side reads and with what limits, what reads it (a stream or a snapshot), how it is
cut, and where it is moved. The rest is what is read.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import attrs

from fuzz.targets import Seed, Target
from xproxy.codecs.api import CodecPlugin, RestoringPlugin
from xproxy.model.limits import Limits
from xproxy.model.traits import Role
from xproxy.testing.reading import Stream, at_random, record
from xproxy.testing.rules.plugin import verdicts
from xproxy.testing.rules.reading import parting, problem_with
from xproxy.testing.rules.snapshot import parting_when_moved, survives
from xproxy.testing.subject import Broken, Subject

_SMALL = Limits(
    max_head_bytes=512, max_headers=8, max_target_bytes=128, max_message_bytes=1024, max_streams=4
)
_HEADER_BYTES = 4


def target(plugin: CodecPlugin) -> Target:
    """Return the fuzz target of any codec."""
    subject = Subject(plugin)
    streams = record(subject)
    # One to read as a server and one to answer our own requests with.
    chosen = [next(s for s in streams if s.role is role) for role in (Role.SERVER, Role.CLIENT)]

    def check(data: bytes) -> None:
        if len(data) < _HEADER_BYTES:
            return
        way, seed, high, low = data[:_HEADER_BYTES]
        stream, rest = chosen[way & 1], data[_HEADER_BYTES:]
        limits = _SMALL if way & 2 else Limits()
        if way & 4 and isinstance(plugin, RestoringPlugin):
            survives(plugin, rest)
            return
        _check_stream(
            subject, attrs.evolve(stream, segments=(rest,)), limits, seed, high << 8 | low
        )

    return Target(
        name=plugin.name, check=check, seeds=lambda: _seeds(streams), mutate=_keeping_the_choice
    )


def _check_stream(subject: Subject, stream: Stream, limits: Limits, seed: int, offset: int) -> None:
    data = stream.data
    cut = at_random(seed)
    if problem := problem_with(subject, stream, data, limits, cut):
        raise Broken(problem, data)
    if difference := parting(subject, stream, cut, limits, data):
        raise Broken(f"whole and in pieces: {difference}", data)
    if isinstance(subject.plugin, RestoringPlugin):
        offset %= len(data) + 1
        if difference := parting_when_moved(subject, stream, offset, limits, patient=True):
            raise Broken(f"moved after {offset} bytes: {difference}", data)
    if stream.role is Role.SERVER:
        verdicts(subject, data[:128])


def _seeds(streams: Sequence[Stream]) -> list[Seed]:
    """Return what the kit itself says with the codec: valid traffic to begin with."""
    return [
        Seed(
            f"{stream.role.value}-{index}",
            bytes((0 if stream.role is Role.SERVER else 1, index, 0, 9)) + stream.segments[0],
        )
        for index, stream in enumerate(streams)
    ]


def _keeping_the_choice(
    data: bytes, chance: random.Random, mutate: Callable[[bytes, random.Random], bytes]
) -> bytes:
    choice = chance.randbytes(_HEADER_BYTES) if chance.random() < 0.3 else data[:_HEADER_BYTES]
    # Snapshots want snapshots as seeds: seldom is enough.
    if chance.random() < 0.9:
        choice = bytes((choice[0] & 3,)) + choice[1:] if choice else choice
    return choice + mutate(data[_HEADER_BYTES:], chance)
