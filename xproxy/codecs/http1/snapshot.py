"""A codec's state as versioned msgpack, and back: the takeover of live connections stands on it.

Rule of this file: what is read may come from anybody. It either describes a state that a codec of this role can
be in, within the limits, or it raises ValueError.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

from xproxy.codecs.http1.chunked import ChunkReader, Phase
from xproxy.codecs.http1.state import ALL_FLAGS, STATES, UPGRADE, Reading, Writing
from xproxy.codecs.http_upgrade import LONGEST_NAME, WEBSOCKET, granted
from xproxy.codecs.http_values import MAX_LENGTH
from xproxy.codecs.packing import MAX_STATE_BYTES
from xproxy.codecs.state_kinds import FLAG, choice, number, octets, text
from xproxy.codecs.state_schema import StateRecord, StateSchema, by_place, state_field
from xproxy.model.limits import Limits
from xproxy.model.traits import Role

NAME: Final = "http1"
VERSION: Final = 3
MAX_BLANK_LINES: Final = 2
"""Empty lines that may stand before a request (RFC 9112 §2.2)."""
_HELD_HEADS: Final = 4
_ACCEPT_CHARS: Final = 28
_ACCEPT: Final = re.compile(r"[A-Za-z0-9+/]{27}=")  # a SHA-1 in base64
_NOTHING: Final = re.compile(r"")


@attrs.frozen(kw_only=True)
class Snapshot:
    """Everything that a codec's future depends on, besides its limits."""

    role: Role
    reading: Reading
    writing: Writing
    flags: int
    """Bits of ``state.ALL_FLAGS``: facts of the exchange under way."""
    draining: bool
    """The next response ends the connection."""
    ended: bool
    """The peer's input has ended."""
    blank_lines: int
    """Empty lines before the request head that is awaited, 0 … 2."""
    left: int
    """Body bytes of a declared length still to come."""
    owed: int
    """Body bytes of a declared length still to be sent."""
    phase: Phase | None
    """Where in a chunked body; None outside of one."""
    chunk_left: int
    """Bytes of the current chunk still to come."""
    extensions: int
    """Bytes of chunk extensions so far in this message."""
    buffer: bytes
    """Received and not used yet: a part of a head or line, or requests held back."""
    upgrade: str
    """What the connection is asked to become, until the answer decides; else empty."""
    accept: str
    """What proves that it was understood, in an upgrade that has such a thing; else empty."""


_RECORD: Final = StateRecord(
    Snapshot,
    state_field("role", choice(Role)),
    state_field("reading", choice(Reading), Reading.IDLE),
    state_field("writing", choice(Writing), Writing.IDLE),
    state_field("flags", number(0, ALL_FLAGS), 0),
    state_field("draining", FLAG, False),
    state_field("ended", FLAG, False),
    state_field("blank_lines", number(0, MAX_BLANK_LINES), 0),
    state_field("left", number(0, MAX_LENGTH), 0),
    state_field("owed", number(0, MAX_LENGTH), 0),
    state_field("phase", choice(Phase), None),
    state_field("chunk_left", number(0, MAX_LENGTH), 0),
    state_field("extensions", number(0, MAX_STATE_BYTES), 0),
    state_field("buffer", octets(MAX_STATE_BYTES), b""),
    state_field("upgrade", text(LONGEST_NAME), ""),
    state_field("accept", text(_ACCEPT_CHARS), ""),
)
# In version 2 these were the fields, by their place; no phase was an empty text.
_PLACES: Final = (
    "role",
    "reading",
    "writing",
    "flags",
    "draining",
    "ended",
    "blank_lines",
    "left",
    "owed",
    "phase",
    "chunk_left",
    "extensions",
    "buffer",
    "upgrade",
    "accept",
)


def _read_version_2(parts: list[object]) -> Snapshot:
    fields = by_place(_PLACES, parts)
    if fields["phase"] == "":
        del fields["phase"]
    return _RECORD.read(fields)


SCHEMA: Final = StateSchema(NAME, VERSION, _RECORD, {2: _read_version_2})

LARGEST_READ: Final = 256 * 1024
"""Bytes that one call may bring beyond what is held back; a codec that was given more at once cannot be moved."""


def held_limit(limits: Limits) -> int:
    """Return how many bytes of later requests, or of a tunnel not granted yet, a codec holds back."""
    return _HELD_HEADS * limits.max_head_bytes


def unpack(state: bytes, role: Role, limits: Limits) -> Snapshot:
    """Read a snapshot of a codec of this role. Raises ValueError for anything else."""
    snapshot = SCHEMA.unpack(state)
    if snapshot.role is not role:
        raise ValueError(f"a snapshot of a {snapshot.role.value}, not of a {role.value}")
    _check(snapshot, role, limits)
    return snapshot


def _check(snapshot: Snapshot, role: Role, limits: Limits) -> None:
    """Raise ValueError for a state that no codec can be in."""
    reading, writing, phase = snapshot.reading, snapshot.writing, snapshot.phase
    if writing not in STATES[role].get(reading, ()):
        raise ValueError(f"no {role.value} reads {reading.value} while it writes {writing.value}")
    if (snapshot.left > 0) != (reading is Reading.LENGTH):
        raise ValueError("left does not fit the state of reading")
    if snapshot.owed and writing is not Writing.LENGTH:
        raise ValueError("owed does not fit the state of writing")
    if (phase is not None) != (reading is Reading.CHUNKED) or phase is Phase.DONE:
        raise ValueError("phase does not fit the state of reading")
    if (snapshot.chunk_left > 0) != (phase is Phase.DATA) or (
        snapshot.extensions and phase is None
    ):
        raise ValueError("chunk does not fit its phase")
    if snapshot.extensions > limits.max_chunk_extensions_bytes:
        raise ValueError("extensions are longer than the limits allow")
    _check_upgrade(snapshot, role)
    if snapshot.flags and reading is Reading.IDLE:
        raise ValueError("flags without an exchange")
    if snapshot.blank_lines and reading is not Reading.HEAD:
        raise ValueError("blank_lines outside of a head")
    if len(snapshot.buffer) > _longest_buffer(reading, phase, limits):
        raise ValueError("buffer is longer than its state allows")


def _check_upgrade(snapshot: Snapshot, role: Role) -> None:
    awaited = Reading.TUNNEL_ASKED if role is Role.SERVER else Reading.HEAD
    asked = bool(snapshot.flags & UPGRADE) and snapshot.reading is awaited
    if asked != (snapshot.upgrade != "") or granted(snapshot.upgrade) != snapshot.upgrade:
        raise ValueError("upgrade does not fit the state of reading")
    proved = _ACCEPT if snapshot.upgrade == WEBSOCKET else _NOTHING
    if proved.fullmatch(snapshot.accept) is None:
        raise ValueError("accept does not fit the upgrade")


def _longest_buffer(reading: Reading, phase: Phase | None, limits: Limits) -> int:
    if reading in (Reading.HEAD, Reading.DONE, Reading.TUNNEL_ASKED, Reading.TUNNEL):
        return held_limit(limits) + LARGEST_READ
    if phase is Phase.SIZE:
        return ChunkReader(limits).line_limit() + 1
    if phase is Phase.DATA_END:
        return 1
    return limits.max_head_bytes if phase is Phase.TRAILERS else 0
