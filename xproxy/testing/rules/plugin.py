"""What a plugin says of itself must be so."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Final

from xproxy.codecs.api import (
    NO_HINT,
    RestoringPlugin,
    SupportsFlow,
    SupportsNativeStatus,
    SupportsSnapshot,
    Verdict,
    VerdictKind,
)
from xproxy.model.limits import Limits
from xproxy.model.status import Status
from xproxy.model.traits import API_VERSION, Role, Sharing, Traits
from xproxy.testing.foreign import FOREIGN
from xproxy.testing.reading import Stream
from xproxy.testing.received import received
from xproxy.testing.subject import Broken, Subject
from xproxy.testing.traffic import violations_in

_GARBAGE: Final = (b"\0" * 64, b"\xff" * 64, b"GARBAGE\r\n\r\n", bytes(range(256)), b"\r\n" * 32)


def traits(subject: Subject) -> None:
    """The name is one that configuration can hold, and the traits agree with each other and the codec."""
    plugin, facts = subject.plugin, subject.traits
    if not re.fullmatch(r"[a-z][a-z0-9_.-]{0,31}", plugin.name):
        raise Broken(f"the name {plugin.name!r} is not lower-case letters, digits, '_', '.', '-'")
    if not isinstance(facts, Traits):
        raise Broken(f"traits is a {type(facts).__name__}")
    if facts.api != API_VERSION:
        raise Broken(f"built for api version {facts.api}, this is {API_VERSION}")
    if facts.headless and facts.sharing is not Sharing.SERIAL:
        raise Broken("a headless protocol has one stream a connection: sharing must be SERIAL")
    for role in Role:
        codec = subject.open(role)
        if isinstance(codec, SupportsSnapshot) != isinstance(plugin, RestoringPlugin):
            raise Broken("snapshot() and restore() go together: one of codec and plugin lacks it")
        if isinstance(codec, SupportsFlow) and facts.sharing is not Sharing.FRAMES:
            raise Broken("windows (consumed, sendable) need sharing FRAMES")


def native_status(subject: Subject) -> None:
    """``status_of`` is total, and agrees with what a response from the wire says."""
    plugin = subject.plugin
    if not isinstance(plugin, SupportsNativeStatus):
        return
    for code in (*range(-2, 1100), -(2**31), 2**31, 2**64):
        if not isinstance(plugin.status_of(code), Status):
            raise Broken(f"status_of({code}) is not a Status")
    native = subject.response.native_status
    if native is not None and plugin.status_of(native) is not subject.response.status:
        raise Broken(f"status_of({native}) is not what the codec made of {native}")


def detection(subject: Subject, streams: list[Stream]) -> None:
    """Detection is total, deterministic, monotone, honest about ``at_least``, and knows its own."""
    for data in _GARBAGE:
        verdicts(subject, data)
    for stream in streams:
        if stream.role is not Role.SERVER or not stream.data:
            continue
        data = stream.data[: 4 * 1024]
        final = verdicts(subject, data)[-1]
        if final.kind not in {VerdictKind.YES, VerdictKind.MAYBE}:
            raise Broken(f"its own traffic is {final.kind.name} ({stream.name})", data)


def verdicts(subject: Subject, data: bytes) -> list[Verdict]:
    """Return the verdicts on each prefix. Raises Broken where they contradict each other."""
    detect = subject.plugin.detect
    given: list[Verdict] = []
    wanted = 0
    for length in range(len(data) + 1):
        prefix = data[:length]
        verdict = detect(prefix, NO_HINT)
        if verdict != detect(bytes(bytearray(prefix)), NO_HINT):
            raise Broken("two looks at the same bytes differ", prefix)
        before = given[-1] if given else verdict
        if before.kind is not VerdictKind.MORE and verdict.kind is not before.kind:
            raise Broken(f"{before.kind.name} becomes {verdict.kind.name} with more bytes", prefix)
        if verdict.kind is VerdictKind.MORE:
            if verdict.at_least <= length:
                raise Broken(f"{length} bytes are there and it asks for {verdict.at_least}", prefix)
            wanted = max(wanted, verdict.at_least)
        elif before.kind is VerdictKind.MORE and length < wanted:
            raise Broken(f"asked for {wanted} bytes, yet {length} decide", prefix)
        given.append(verdict)
    if given[0].kind in {VerdictKind.YES, VerdictKind.NO}:
        raise Broken(f"{given[0].kind.name} without a byte", b"")
    return given


_UNLIMITED: Final = Limits(
    max_head_bytes=1 << 30, max_target_bytes=1 << 30, max_message_bytes=1 << 60
)
"""What is only too long is the codec's all the same."""
_LOOKED_AT: Final = 512
_CHANGED: Final = 40
"""Bytes from the first that are changed, as it is by these that a codec is known."""
_MUTANTS: Final = 120
"""Changed beginnings tried of each stream."""
_BYTES: Final = (0, 1, 2, 4, 0x0A, 0x0D, 0x20, 0x2F, 0x7F, 0x80, 0xFF)


def claims(subject: Subject, streams: list[Stream]) -> None:
    """A YES is kept: the codec's own decoder does not refuse what was looked at, nor a stranger's whole message."""
    if subject.traits.headless or subject.traits.server_first:
        return
    for stream in streams:
        if stream.role is Role.SERVER and stream.data:
            for data in _mutants(stream.data[:_LOOKED_AT]):
                claim(subject, data)
    for foreign in FOREIGN:
        size = claim(subject, foreign.data)
        if size >= 0 and (crime := refusal(subject, foreign.data)):
            raise Broken(f"says YES to {foreign.name}, and then: {crime}", foreign.data)


def claim(subject: Subject, data: bytes) -> int:
    """Return how many bytes of ``data`` are claimed with YES; -1: it never is. Raises Broken for a YES not kept."""
    detect = subject.plugin.detect
    for size in range(1, len(data) + 1):
        kind = detect(data[:size], NO_HINT).kind
        if kind is VerdictKind.YES:
            if crime := refusal(subject, data[:size]):
                raise Broken(f"says YES, and then refuses the same bytes: {crime}", data[:size])
            return size
        if kind is not VerdictKind.MORE:
            return -1
    return -1


def refusal(subject: Subject, data: bytes) -> str:
    """Say why the codec does not take these bytes as the first of a connection; empty: it does."""
    crimes = violations_in(received(subject.open(Role.SERVER, _UNLIMITED), data))
    return crimes[0] if crimes else ""


def _mutants(data: bytes) -> Iterator[bytes]:
    chance = random.Random(len(data))  # noqa: S311  # repeatable, not secret
    yield data
    for _ in range(_MUTANTS):
        changed = bytearray(data)
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(min(len(changed), _CHANGED))
            byte = chance.choice(_BYTES) if chance.random() < 0.5 else chance.randrange(256)
            way = chance.randrange(3)
            if way == 0:
                changed[at] = byte
            elif way == 1:
                changed.insert(at, byte)
            elif len(changed) > 1:
                del changed[at]
        yield bytes(changed)
