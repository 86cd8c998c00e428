"""A codec's state by name: the takeover of live connections stands on it.

Rule of this file: what is read may come from anybody. It either describes a state that a codec of this role can be
in, or it raises ValueError; nothing of the codec changes before all of it was checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from xproxy.codecs.http2.guard import Guard
from xproxy.codecs.http2.limits import (
    FIRST_FRAME_BYTES,
    FIRST_TABLE_BYTES,
    FIRST_WINDOW,
    HEADS_READ,
    MAX_FRAME_BYTES,
    MAX_STREAM_ID,
    MAX_WINDOW,
    NO_HEAD_BOUND,
    Http2Limits,
)
from xproxy.codecs.http2.snapshot_v3 import named
from xproxy.codecs.http2.snapshot_v4 import without_waiting
from xproxy.codecs.http2.state import Drain, Stage, State
from xproxy.codecs.http2.stream import Stream
from xproxy.codecs.http2.streams import Past
from xproxy.codecs.http2.table import ENTRY_BYTES, Field, Table
from xproxy.codecs.http2.wire import HEADER_BYTES
from xproxy.codecs.packing import MAX_STATE_BYTES
from xproxy.codecs.state_kinds import FLAG, Kind, choice, mapping, number, octets, sequence
from xproxy.codecs.state_schema import StateRecord, StateSchema, state_field
from xproxy.model.limits import Limits
from xproxy.model.traits import Role

NAME: Final = "http2"
VERSION: Final = 5
_MAX_TABLE: Final = 64 * 1024
_MAX_COUNT: Final = 2**62
_MAX_LENGTH: Final = 2**63 - 1
_MAX_BODY: Final = 2**40
_MAX_STREAMS: Final = 2**16
"""Streams of a kind, however they are bounded elsewhere."""


@attrs.frozen(kw_only=True)
class Block:
    """A header block that is not whole."""

    stream_id: int
    end: bool
    """It ends its stream's message."""
    pieces: int
    """CONTINUATION frames so far."""
    data: bytes


@attrs.define(eq=False, kw_only=True)
class Snapshot:
    """Everything that a codec's future depends on, besides its limits."""

    role: Role
    stage: Stage
    greeted: bool
    """We have said what we say first."""
    acknowledged: bool
    """The peer has acknowledged our settings."""
    due: bool
    """Something waits for the next bytes to arrive."""
    buffer: bytes
    """A frame, or preface, that is not whole; empty if there is none."""
    needed: int
    """Bytes of ``buffer`` before which there is no use in looking at it."""
    block: Block | None
    decoder: Table
    encoder: Table
    resizes: list[int]
    """Bounds of our table that the next header block announces."""
    highest: int
    """Highest id of a request; -1: none yet."""
    streams: dict[int, Stream]
    """Those that are open."""
    held: dict[int, list[int]]
    """Those that are over and hold room: body bytes not yet consumed, and by how much their window had grown."""
    past: Past
    inbound: int
    """This and the next five: see ``Windows``."""
    owed: int
    spare: int
    first_inbound: int
    outbound: int
    first_outbound: int
    frame_bytes: int
    """This and the next three: what the peer takes, see ``Sender``."""
    head_bytes: int
    most_streams: int
    connect: bool
    drain: Drain
    peer_last: int
    """The last stream that the peer's GOAWAY lets live; -1: it has said none."""
    counters: dict[str, int]
    """Those of ``Guard`` that are not 0."""
    retiring: bool = False
    """Ids run out (client only)."""


def _read_stream_id(found: object) -> int:
    stream_id = _ANY_ID.read(found)
    if not stream_id & 1:
        raise ValueError(f"is {stream_id}, which is even")
    return stream_id


_ANY_ID: Final = number(1, MAX_STREAM_ID)
_ID: Final = Kind(_read_stream_id)


def _read_text(found: object) -> str:
    if type(found) is not str:
        raise ValueError("is no text")
    try:
        found.encode("latin-1")
    except UnicodeEncodeError as exc:
        raise ValueError("is text that stands for no bytes") from exc
    return found


def _read_row(found: object, size: int) -> list[object]:
    if type(found) is not list or len(found) != size:
        raise ValueError(f"is no list of {size}")
    return found


def _read_entry(found: object) -> Field:
    name, value = _read_row(found, 2)
    return _read_text(name), _read_text(value)


_ENTRIES: Final = sequence(Kind(_read_entry, list), _MAX_TABLE // ENTRY_BYTES)


def _table(maximum: int, entries: Sequence[Field]) -> Table:
    table = Table(entries, maximum)
    if table.size > maximum:
        raise ValueError(f"holds {table.size} bytes, limit {maximum}")
    return table


_TABLE: Final = StateRecord(
    _table,
    state_field("maximum", number(0, _MAX_TABLE), FIRST_TABLE_BYTES),
    state_field("entries", Kind(lambda found: tuple(_ENTRIES.read(found)), _ENTRIES.write), ()),
)


def _stream(state: State, **facts: bool | int) -> Stream:
    stream = Stream(state)
    for name, value in facts.items():
        setattr(stream, name, value)
    return stream


_STREAM: Final = StateRecord(
    _stream,
    state_field("state", choice((State.OPEN, State.HALF_CLOSED_LOCAL, State.HALF_CLOSED_REMOTE))),
    state_field("headed", FLAG, False),
    state_field("spoken", FLAG, False),
    state_field("muted", FLAG, False),
    state_field("unanswered", FLAG, False),
    state_field("connect", FLAG, False),
    state_field("upgrade", FLAG, False),
    state_field("call", FLAG, False),
    state_field("web_call", FLAG, False),
    state_field("expected", number(-1, _MAX_LENGTH), -1),
    state_field("owing", number(-1, _MAX_LENGTH), -1),
    state_field("inbound", number(-_MAX_BODY, _MAX_BODY), 0),
    state_field("outbound", number(-_MAX_BODY, _MAX_BODY), 0),
    state_field("owed", number(0, _MAX_BODY), 0),
    state_field("unconsumed", number(0, _MAX_BODY), 0),
    state_field("opened", number(0, _MAX_COUNT), 0),
    state_field("grown", number(0, MAX_WINDOW), 0),
)


def _read_held(found: object) -> list[int]:
    count, grown = _read_row(found, 2)
    return [number(1, _MAX_BODY).read(count), number(0, MAX_WINDOW).read(grown)]


def _read_pair(found: object) -> tuple[int, int]:
    first, last = _read_row(found, 2)
    return _ID.read(first), _ID.read(last)


def _past(abandoned: dict[int, None], forgotten: int, skipped: list[tuple[int, int]]) -> Past:
    past = Past()
    past.abandoned = abandoned
    past.forgotten = forgotten
    past.skipped = skipped
    return past


_ABANDONED: Final = sequence(_ID, Past.ABANDONED)
_PAST: Final = StateRecord(
    _past,
    state_field("abandoned", Kind(lambda found: dict.fromkeys(_ABANDONED.read(found)), list), {}),
    state_field("forgotten", number(0, MAX_STREAM_ID), 0),
    state_field("skipped", sequence(Kind(_read_pair, list), Past.SKIPPED), []),
)
_BLOCK: Final = StateRecord(
    Block,
    state_field("stream_id", _ANY_ID),
    state_field("end", FLAG, False),
    state_field("pieces", number(0, MAX_STREAM_ID), 0),
    state_field("data", octets(MAX_STATE_BYTES), b""),
)


def _read_counter(found: object) -> str:
    if type(found) is not str or found not in Guard.COUNTERS:
        raise ValueError("is no counter")
    return found


_COUNTERS: Final = mapping(Kind(_read_counter), number(0, _MAX_COUNT), len(Guard.COUNTERS))
_RECORD: Final = StateRecord(
    Snapshot,
    state_field("role", choice(Role)),
    state_field("stage", choice(Stage), Stage.RUNNING),
    state_field("greeted", FLAG, True),
    state_field("acknowledged", FLAG, True),
    state_field("due", FLAG, False),
    state_field("buffer", octets(HEADER_BYTES + MAX_FRAME_BYTES), b""),
    state_field("needed", number(0, HEADER_BYTES + MAX_FRAME_BYTES), 0),
    state_field("block", _BLOCK.kind, None),
    state_field("decoder", _TABLE.kind),
    state_field("encoder", _TABLE.kind),
    state_field("resizes", sequence(number(0, _MAX_TABLE), 2), []),
    state_field("highest", number(-1, MAX_STREAM_ID), -1),
    state_field("streams", mapping(_ID, _STREAM.kind, _MAX_STREAMS), {}),
    state_field("held", mapping(_ID, Kind(_read_held), _MAX_STREAMS), {}),
    state_field("past", _PAST.kind),
    state_field("inbound", number(0, MAX_WINDOW)),
    state_field("owed", number(-MAX_WINDOW, MAX_WINDOW), 0),
    state_field("spare", number(0, MAX_WINDOW)),
    state_field("first_inbound", number(0, MAX_WINDOW), FIRST_WINDOW),
    state_field("outbound", number(-MAX_WINDOW, MAX_WINDOW), FIRST_WINDOW),
    state_field("first_outbound", number(0, MAX_WINDOW), FIRST_WINDOW),
    state_field("frame_bytes", number(FIRST_FRAME_BYTES, MAX_FRAME_BYTES), FIRST_FRAME_BYTES),
    state_field("head_bytes", number(0, NO_HEAD_BOUND), NO_HEAD_BOUND),
    state_field("most_streams", number(0, 2**32 - 1), MAX_STREAM_ID),
    state_field("connect", FLAG, False),
    state_field("drain", choice(Drain), Drain.NONE),
    state_field("peer_last", number(-1, MAX_STREAM_ID), -1),
    state_field("counters", _COUNTERS, {}),
    state_field("retiring", FLAG, False),
)


def _read_version_3(parts: list[object]) -> Snapshot:
    return _RECORD.read(without_waiting(named(parts)))


def _read_version_4(parts: list[object]) -> Snapshot:
    if len(parts) != 1:
        raise ValueError("has other parts")
    return _RECORD.read(without_waiting(parts[0]))


SCHEMA: Final = StateSchema(NAME, VERSION, _RECORD, {3: _read_version_3, 4: _read_version_4})


def unpack(state: bytes, role: Role, limits: Limits, own: Http2Limits) -> Snapshot:
    """Read a snapshot of a codec of this role. Raises ValueError for anything else."""
    snapshot = SCHEMA.unpack(state)
    if snapshot.role is not role:
        raise ValueError(f"a snapshot of a {snapshot.role.value}, not of a {role.value}")
    _check(snapshot, limits, own)
    return snapshot


def _check(snapshot: Snapshot, limits: Limits, own: Http2Limits) -> None:
    """Raise ValueError for a state that no codec can be in."""
    if any(stream_id > snapshot.highest for stream_id in snapshot.streams):
        raise ValueError("a stream above the highest")
    if snapshot.role is Role.SERVER:
        if snapshot.retiring:
            raise ValueError("a server's ids are not its own")
    elif snapshot.stage is Stage.MAGIC:
        raise ValueError("a client awaits no preface")
    if len(snapshot.buffer) > own.frame_bytes + HEADER_BYTES:
        raise ValueError("buffer is longer than a frame may be")
    if snapshot.block is not None and len(snapshot.block.data) > limits.max_head_bytes * HEADS_READ:
        raise ValueError("block is longer than one may be")
    if (snapshot.buffer or snapshot.block is not None) and snapshot.stage is Stage.ENDED:
        raise ValueError("bytes kept after the end")
