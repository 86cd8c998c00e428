"""A connection may move to another process at any byte."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import attrs

from xproxy.codecs.api import (
    Codec,
    RestoringPlugin,
    SupportsGoAway,
    SupportsHeartbeat,
    SupportsSnapshot,
)
from xproxy.model.frames import Frame
from xproxy.model.limits import DEFAULT_LIMITS, Limits
from xproxy.model.traits import Role, Sharing
from xproxy.testing.pair import Pair, Side
from xproxy.testing.reading import Exchange, Reader, Stream, exchanges, read, whole
from xproxy.testing.rules.reading import mutate
from xproxy.testing.subject import Broken, Subject
from xproxy.testing.traffic import Event, difference

_OFFSETS = 300
"""Offsets tried in each stream; all, if it is shorter."""
_OTHERS = Limits(
    max_head_bytes=2 * DEFAULT_LIMITS.max_head_bytes,
    max_headers=2 * DEFAULT_LIMITS.max_headers,
    max_message_bytes=2 * DEFAULT_LIMITS.max_message_bytes,
    max_streams=2 * DEFAULT_LIMITS.max_streams,
)
"""A connection moves with the limits it was opened with, whatever new ones have."""
_OTHER_OFFSETS = 30
_TIGHT = Limits(
    max_head_bytes=64,
    max_headers=1,
    max_target_bytes=16,
    max_message_bytes=64,
    max_streams=1,
)
"""Nothing was opened with these: what does not fit is refused, and nothing else comes of it."""
_STAYS = 5
"""Of so many offsets one at which the original goes on, too: a move tries the same, but for that."""
_HOSTILE = 400
"""Changed states tried."""


def snapshots(subject: Subject, streams: list[Stream]) -> None:
    """At every offset, ``restore(snapshot())`` goes on as the original would have, and so does the original."""
    plugin = subject.plugin
    if not isinstance(plugin, RestoringPlugin):
        return
    for stream in streams:
        size = len(stream.data)
        for limits, offsets in ((DEFAULT_LIMITS, _OFFSETS), (_OTHERS, _OTHER_OFFSETS)):
            expected = read(subject, stream, whole, limits).events
            for number, offset in enumerate(range(0, size + 1, max(1, size // offsets))):
                parting = _parting(subject, stream, offset, limits, expected, _move)
                if not parting and number % _STAYS == 0:
                    parting = _parting(subject, stream, offset, limits, expected, _stay)
                if parting:
                    where = f"{stream.name}, moved after {offset} bytes"
                    raise Broken(f"{where}, {limits}: {parting}", stream.data)


def parting_when_moved(
    subject: Subject, stream: Stream, offset: int, limits: Limits, *, patient: bool = False
) -> str | None:
    """Read the stream whole, and moved after ``offset`` bytes; return where the two part, if they do.

    ``patient``: see ``read``.
    """
    expected = read(subject, stream, whole, limits, patient=patient).events
    for move in (_move, _stay):
        if parting := _parting(subject, stream, offset, limits, expected, move, patient=patient):
            return parting
    return None


def _parting(
    subject: Subject,
    stream: Stream,
    offset: int,
    limits: Limits,
    expected: list[Event],
    move: Callable[[Subject, Reader], None],
    *,
    patient: bool = False,
) -> str | None:
    got = _read_across(subject, stream, offset, limits, patient, move).events
    if got == expected:
        return None
    otherwise = difference(expected, got)
    return (
        otherwise
        if move is _move
        else f"after snapshot() the original goes on otherwise: {otherwise}"
    )


def _read_across(
    subject: Subject,
    stream: Stream,
    offset: int,
    limits: Limits,
    patient: bool,
    move: Callable[[Subject, Reader], None],
) -> Reader:
    """Read the stream with a move after ``offset`` bytes, before what is to be done there is done."""
    patient = patient and subject.sharing is not Sharing.SERIAL
    reader = Reader(subject, stream, limits)
    feed = reader.look if patient else reader.feed
    position, moved = 0, False
    for index, segment in enumerate(stream.segments):
        if index:
            reader.next_segment()
        if not moved and position <= offset <= position + len(segment):
            reader.look(segment[: offset - position])
            move(subject, reader)
            if not patient:
                reader.act()
            feed(segment[offset - position :])
            moved = True
        else:
            feed(segment)
        position += len(segment)
    reader.act()
    reader.feed(None)
    return reader


def _state_of(codec: Codec) -> bytes:
    if not isinstance(codec, SupportsSnapshot):
        raise Broken("the plugin has restore(), its codec has no snapshot()")
    state = codec.snapshot()
    if not isinstance(state, bytes):
        raise Broken(f"snapshot() returns a {type(state).__name__}")
    if codec.snapshot() != state:
        raise Broken("snapshot() changes what it writes down: the next one is another", state)
    return state


def _move(subject: Subject, reader: Reader) -> None:
    """Move twice in a row, as in two upgrades."""
    assert isinstance(subject.plugin, RestoringPlugin)
    state = _state_of(reader.codec)
    for _ in range(2):
        reader.codec = subject.plugin.restore(state, reader.stream.role, reader.limits)
        again = _state_of(reader.codec)
        if again != state:
            raise Broken("what restore() makes of a state has another snapshot()", state)


def _stay(_subject: Subject, reader: Reader) -> None:
    """Write the state down, as in a rehearsal, and go on."""
    _state_of(reader.codec)


def writing_when_moved(subject: Subject, _streams: list[Stream]) -> None:
    """Moved before each frame that is sent, both sides write the bytes that they would have written."""
    if not isinstance(subject.plugin, RestoringPlugin):
        return
    for name, conversation in exchanges(subject):
        expected, got = (_written(subject, conversation, moves=moves) for moves in (False, True))
        for role, ours, theirs in zip(Role, expected, got, strict=True):
            if ours != theirs:
                raise Broken(f"{name}: moved, the {role.value} writes something else", ours)


def _written(subject: Subject, conversation: list[Exchange], *, moves: bool) -> tuple[bytes, bytes]:
    """Return what both sides write, in the order of ``Role``."""
    pair = Pair(subject)
    sides = {side.role: side for side in (pair.client, pair.server)}
    turns: list[tuple[Side, Sequence[Frame]]] = []
    if subject.sharing is Sharing.SERIAL:
        for asked, answered in conversation:
            turns += [(pair.client, asked), (pair.server, answered)]
    else:
        turns += [(pair.client, asked) for asked, _ in conversation]
        turns += [(pair.server, answered) for _, answered in reversed(conversation)]
    for side, frames in turns:
        for frame in frames:
            if moves:
                for one in sides.values():
                    one.codec = _moved(subject, one)
            pair.send(side, frame)
    for side in sides.values():
        if isinstance(side.codec, SupportsHeartbeat):
            side.sent += side.codec.heartbeat()
        if isinstance(side.codec, SupportsGoAway):
            side.sent += side.codec.goaway()
    return tuple(bytes(sides[role].sent) for role in Role)  # type: ignore[return-value]  # there are two


def _moved(subject: Subject, side: Side) -> Codec:
    assert isinstance(subject.plugin, RestoringPlugin)
    return subject.plugin.restore(_state_of(side.codec), side.role, DEFAULT_LIMITS)


def kept_states(subject: Subject) -> None:
    """What was written once, maybe by an earlier release, is restored, and from then on written as it is now."""
    plugin = subject.plugin
    if not subject.samples.states:
        return
    if not isinstance(plugin, RestoringPlugin):
        raise Broken("there are states among the samples, and the plugin has no restore()")
    for role, state in subject.samples.states:
        try:
            again = _state_of(plugin.restore(state, role, DEFAULT_LIMITS))
            last = _state_of(plugin.restore(again, role, DEFAULT_LIMITS))
        except ValueError as exc:
            raise Broken(f"a {role.value}'s state is refused: {exc}", state) from exc
        if again != last:
            raise Broken("what restore() makes of a state has another snapshot()", again)


def hostile_states(subject: Subject, streams: list[Stream]) -> None:
    """``restore`` refuses with ValueError what no codec wrote, or not under such limits.

    What it takes still reads anything.
    """
    plugin = subject.plugin
    if not isinstance(plugin, RestoringPlugin):
        return
    chance = random.Random(3)  # noqa: S311  # it decides about test input only
    states = [state for stream in streams for state in _some_states(subject, stream)]
    hostile = [b"", b"\xc1", b"\x80", b"\x90", b"\xc0", b"\x91" * 3000, b"\xdf\xff\xff\xff\xff"]
    hostile += [state[:cut] for state in states[:4] for cut in range(0, len(state), 7)]
    hostile += [mutate(chance.choice(states), chance) for _ in range(_HOSTILE)]
    for state in hostile:
        survives(plugin, state)
    for state in states:
        survives(plugin, state, _TIGHT)
    for state in states[:1]:
        for damaged in (state + b"\0", state[:-1]):
            _refuses(plugin, damaged)


def survives(plugin: RestoringPlugin, state: bytes, limits: Limits = DEFAULT_LIMITS) -> None:
    """Restore any bytes. Raises Broken unless ValueError is raised, or a codec comes out that reads anything."""
    for role in Role:
        try:
            codec = plugin.restore(state, role, limits)
        except ValueError:
            continue
        except Exception as exc:
            raise Broken(f"restore raises {type(exc).__name__}: {exc}", state) from exc
        try:
            for data in (b"", b"\0\xff\r\n", bytes(64), None):
                codec.receive(data)
        except Exception as exc:
            raise Broken(
                f"restore takes this state as {role.value}, then receive raises"
                f" {type(exc).__name__}: {exc}",
                state,
            ) from exc


def _refuses(plugin: RestoringPlugin, state: bytes) -> None:
    for role in Role:
        try:
            plugin.restore(state, role, DEFAULT_LIMITS)
        except ValueError:
            continue
        raise Broken(f"restore takes a state that is too long or too short as {role.value}", state)


def _some_states(subject: Subject, stream: Stream) -> list[bytes]:
    states = []
    data = stream.segments[0]
    for offset in range(0, len(data) + 1, max(1, len(data) // 8)):
        reader = Reader(subject, attrs.evolve(stream, segments=(data,)))
        reader.look(data[:offset])
        if isinstance(reader.codec, SupportsSnapshot):
            states.append(reader.codec.snapshot())
    return states
