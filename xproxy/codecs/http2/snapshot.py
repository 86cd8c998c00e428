"""A codec's state as versioned msgpack, and back: the takeover of live connections stands on it.

Rule of this file: what is read may come from anybody. It either describes a state that a codec of this role can be
in, or it raises ValueError; nothing of the codec changes before all of it was checked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

import attrs

from xproxy.codecs.http2.guard import Guard
from xproxy.codecs.http2.limits import (
    HEADS_READ,
    MAX_FRAME_BYTES,
    MAX_STREAM_ID,
    MAX_WINDOW,
    NO_HEAD_BOUND,
    Http2Limits,
)
from xproxy.codecs.http2.state import Drain, Stage, State
from xproxy.codecs.http2.stream import Stream, Waiting
from xproxy.codecs.http2.streams import Past
from xproxy.codecs.http2.table import ENTRY_BYTES, Field, Secret, Table
from xproxy.codecs.http2.wire import HEADER_BYTES
from xproxy.codecs.packing import pack_state, unpack_state
from xproxy.model.limits import Limits
from xproxy.model.traits import Role

NAME: Final = "http2"
VERSION: Final = 3
_MOST: Final = 2**62
_MAX_TABLE: Final = 64 * 1024

T = TypeVar("T")


@attrs.define(eq=False, kw_only=True)
class Snapshot:
    """Everything that a codec's future depends on, besides limits. Fields are those of ``sending.Sender``."""

    stage: Stage
    drain: Drain
    flags: list[bool]
    """Greeted, acknowledged, block ends its stream, peer takes extended CONNECT, due, unheard, retiring."""
    numbers: list[int]
    """In the order of ``NUMBERS``."""
    buffer: bytes | None
    """A frame that is not whole."""
    block: bytes | None
    """A header block that is not whole."""
    decoder: Table
    encoder: Table
    resizes: list[int]
    """Bounds of our table that the next header block announces."""
    streams: dict[int, Stream]
    held: dict[int, list[int]]
    past: Past
    counters: list[int]
    """In the order of ``Guard.COUNTERS``."""
    waiting: dict[int, Waiting]


NUMBERS: Final = (
    ("highest", -1, MAX_STREAM_ID),
    ("needed", 0, HEADER_BYTES + MAX_FRAME_BYTES),
    ("block_stream", 0, MAX_STREAM_ID),
    ("block_frames", 0, MAX_STREAM_ID),
    ("intake_window", 0, MAX_WINDOW),
    ("intake_owed", -MAX_WINDOW, MAX_WINDOW),
    ("intake_spare", 0, MAX_WINDOW),
    ("first_window_in", 0, MAX_WINDOW),
    ("window_out", -MAX_WINDOW, MAX_WINDOW),
    ("peer_first_window", 0, MAX_WINDOW),
    ("peer_frame_bytes", 16384, MAX_FRAME_BYTES),
    ("peer_streams", 0, 2**32 - 1),
    ("peer_head_bytes", 0, NO_HEAD_BOUND),
    ("peer_gone", -1, MAX_STREAM_ID),
    ("last_served", 0, MAX_STREAM_ID),
)
"""Name, lowest and highest value."""
FLAGS: Final = 7

_STREAM_FLAGS: Final = (
    "headed",
    "spoken",
    "muted",
    "unanswered",
    "connect",
    "upgrade",
    "call",
    "web_call",
)
_STREAM_NUMBERS: Final = (
    ("expected", -1, 2**63 - 1),
    ("owing", -1, 2**63 - 1),
    ("inbound", -(2**40), 2**40),
    ("outbound", -(2**40), 2**40),
    ("owed", 0, 2**40),
    ("unconsumed", 0, 2**40),
    ("opened", 0, _MOST),
    ("grown", 0, MAX_WINDOW),
)


_STATES: Final = {
    (state.receiving, state.sending): state
    for state in (State.OPEN, State.HALF_CLOSED_LOCAL, State.HALF_CLOSED_REMOTE)
}
"""By whether the peer's message goes on, and whether ours does."""


def _pack_fields(fields: Iterable[Field]) -> list[object]:
    return [[name, value, type(value) is Secret] for name, value in fields]


def _pack_table(table: Table) -> list[object]:
    return [table.maximum, [list(pair) for pair in table.entries]]


def pack(snapshot: Snapshot, role: Role) -> bytes:
    """Write a snapshot down."""
    streams = [
        [
            stream_id,
            stream.state.receiving,
            stream.state.sending,
            *[getattr(stream, name) for name in _STREAM_FLAGS],
            *[getattr(stream, name) for name, _, _ in _STREAM_NUMBERS],
        ]
        for stream_id, stream in snapshot.streams.items()
    ]
    past = snapshot.past
    waiting = [
        [
            stream_id,
            _pack_fields(one.fields),
            one.declared,
            one.head_method,
            one.connect,
            one.upgrade,
            one.call,
            one.end,
            _pack_fields(one.trailers),
        ]
        for stream_id, one in snapshot.waiting.items()
    ]
    return pack_state(
        NAME,
        VERSION,
        (
            role.value,
            snapshot.stage.value,
            snapshot.drain.value,
            snapshot.flags,
            snapshot.numbers,
            [] if snapshot.buffer is None else [snapshot.buffer],
            [] if snapshot.block is None else [snapshot.block],
            _pack_table(snapshot.decoder),
            _pack_table(snapshot.encoder),
            snapshot.resizes,
            streams,
            [[stream_id, *held] for stream_id, held in snapshot.held.items()],
            [list(past.abandoned), past.forgotten, [list(pair) for pair in past.skipped]],
            snapshot.counters,
            waiting,
        ),
    )


_TYPES: Final = (str, str, str, *([list] * 12))


def _the(kind: type[T], value: object) -> T:
    if type(value) is not kind:
        raise ValueError(f"a field of a snapshot is not {kind.__name__}")
    return value


def _number(value: object, lowest: int, highest: int) -> int:
    number = _the(int, value)
    if not lowest <= number <= highest:
        raise ValueError(f"a number of a snapshot is not from {lowest} to {highest}")
    return number


def _items(value: object, most: int) -> list[object]:
    items: list[object] = _the(list, value)
    if len(items) > most:
        raise ValueError(f"a list of a snapshot has above {most} items")
    return items


def _exactly(value: object, size: int) -> list[object]:
    items = _items(value, size)
    if len(items) != size:
        raise ValueError(f"a list of a snapshot has not {size} items")
    return items


def _bytes(value: object, most: int) -> bytes | None:
    items = _items(value, 1)
    if not items:
        return None
    data = _the(bytes, items[0])
    if len(data) > most:
        raise ValueError(f"bytes of a snapshot are above {most}")
    return data


def _text(value: object) -> str:
    text = _the(str, value)
    try:
        text.encode("latin-1")
    except UnicodeEncodeError as exc:
        raise ValueError("text of a snapshot is not bytes") from exc
    return text


def _stream_id(value: object) -> int:
    stream_id = _number(value, 1, MAX_STREAM_ID)
    if not stream_id & 1:
        raise ValueError("a stream of a snapshot is even")
    return stream_id


def _table(value: object) -> Table:
    maximum, rows = _exactly(value, 2)
    bound = _number(maximum, 0, _MAX_TABLE)
    entries: list[Field] = []
    for row in _items(rows, _MAX_TABLE // ENTRY_BYTES):
        name, text = _exactly(row, 2)
        entries.append((_text(name), _text(text)))
    table = Table(entries, bound)
    if table.size > bound:
        raise ValueError("a table of a snapshot is above its bound")
    return table


def _fields(value: object, most: int) -> list[Field]:
    fields: list[Field] = []
    for row in _items(value, most):
        name, text, secret = _exactly(row, 3)
        plain = _text(text)
        fields.append((_text(name), Secret(plain) if _the(bool, secret) else plain))
    return fields


def _stream(row: object) -> tuple[int, Stream]:
    flags, numbers = len(_STREAM_FLAGS), len(_STREAM_NUMBERS)
    items = _exactly(row, 3 + flags + numbers)
    directions = (_the(bool, items[1]), _the(bool, items[2]))
    state = _STATES.get(directions)
    if state is None:
        raise ValueError("a stream of a snapshot is not open")
    stream = Stream(state)
    for name, value in zip(_STREAM_FLAGS, items[3 : 3 + flags], strict=True):
        setattr(stream, name, _the(bool, value))
    for (name, lowest, highest), value in zip(_STREAM_NUMBERS, items[3 + flags :], strict=True):
        setattr(stream, name, _number(value, lowest, highest))
    return _stream_id(items[0]), stream


def _past(value: object) -> Past:
    abandoned, forgotten, skipped = _exactly(value, 3)
    past = Past()
    for item in _items(abandoned, Past.ABANDONED):
        past.abandoned[_stream_id(item)] = None
    past.forgotten = _number(forgotten, 0, MAX_STREAM_ID)
    for row in _items(skipped, Past.SKIPPED):
        first, last = _exactly(row, 2)
        past.skipped.append((_stream_id(first), _stream_id(last)))
    return past


def _waiting(row: object, most_fields: int) -> tuple[int, Waiting]:
    stream_id, fields, declared, head_method, connect, upgrade, call, end, trailers = _exactly(
        row, 9
    )
    return _stream_id(stream_id), Waiting(
        fields=_fields(fields, most_fields),
        declared=_number(declared, -1, 2**63 - 1),
        head_method=_the(bool, head_method),
        connect=_the(bool, connect),
        upgrade=_the(bool, upgrade),
        call=_the(bool, call),
        end=_the(bool, end),
        trailers=_fields(trailers, most_fields),
    )


def unpack(state: bytes, role: Role, limits: Limits, own: Http2Limits) -> Snapshot:
    """Read a snapshot of a codec of this role. Raises ValueError for anything else."""
    parts = unpack_state(NAME, VERSION, _TYPES, state)
    if parts[0] != role.value:
        raise ValueError("a snapshot of the other role")
    most = 2**16  # streams of a kind, however they are bounded elsewhere
    rows = [_stream(row) for row in _items(parts[10], most)]
    held = [_exactly(row, 3) for row in _items(parts[11], most)]
    snapshot = Snapshot(
        stage=Stage(_the(str, parts[1])),
        drain=Drain(_the(str, parts[2])),
        flags=[_the(bool, flag) for flag in _exactly(parts[3], FLAGS)],
        numbers=[
            _number(value, lowest, highest)
            for (_, lowest, highest), value in zip(
                NUMBERS, _exactly(parts[4], len(NUMBERS)), strict=True
            )
        ],
        buffer=_bytes(parts[5], own.frame_bytes + HEADER_BYTES),
        block=_bytes(parts[6], limits.max_head_bytes * HEADS_READ),
        decoder=_table(parts[7]),
        encoder=_table(parts[8]),
        resizes=[_number(size, 0, _MAX_TABLE) for size in _items(parts[9], 2)],
        streams=dict(rows),
        held={
            _stream_id(stream_id): [_number(count, 1, 2**40), _number(grown, 0, MAX_WINDOW)]
            for stream_id, count, grown in held
        },
        past=_past(parts[12]),
        counters=[_number(n, 0, _MOST) for n in _exactly(parts[13], len(Guard.COUNTERS))],
        waiting=dict([_waiting(row, 2**16) for row in _items(parts[14], most)]),
    )
    _check(snapshot, role)
    return snapshot


def _check(snapshot: Snapshot, role: Role) -> None:
    """Raise ValueError for a state that no codec can be in."""
    highest = snapshot.numbers[0]
    if any(stream_id > highest for stream_id in snapshot.streams):
        raise ValueError("a stream above the highest")
    if snapshot.waiting and role is Role.SERVER:
        raise ValueError("a server has no requests that wait")
    if snapshot.stage is Stage.MAGIC and role is Role.CLIENT:
        raise ValueError("a client awaits no preface")
    if snapshot.block is not None and not snapshot.numbers[2]:
        raise ValueError("a header block without a stream")
    if (snapshot.buffer is not None or snapshot.block is not None) and (
        snapshot.stage is Stage.ENDED
    ):
        raise ValueError("bytes kept after the end")
