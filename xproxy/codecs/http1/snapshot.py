"""A codec's state as versioned msgpack, and back: the takeover of live connections stands on it.

Rule of this file: what is read may come from anybody. It either describes a state that a codec of this role can
be in, within the limits, or it raises ValueError.
"""

from __future__ import annotations

import re
from typing import Final, TypeVar

import attrs

from xproxy.codecs.http1.chunked import ChunkReader, Phase
from xproxy.codecs.http1.state import ALL_FLAGS, STATES, UPGRADE, Reading, Writing
from xproxy.codecs.http_upgrade import WEBSOCKET, granted
from xproxy.codecs.http_values import MAX_LENGTH
from xproxy.codecs.packing import pack_state, unpack_state
from xproxy.model.limits import Limits
from xproxy.model.traits import Role

NAME: Final = "http1"
VERSION: Final = 2
MAX_BLANK_LINES: Final = 2
"""Empty lines that may stand before a request (RFC 9112 §2.2)."""
_HELD_HEADS: Final = 4
_NO_PHASE: Final = ""
_ACCEPT: Final = re.compile(r"[A-Za-z0-9+/]{27}=")  # a SHA-1 in base64
_NOTHING: Final = re.compile(r"")

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Snapshot:
    """Everything that a codec's future depends on, besides its limits."""

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


LARGEST_READ: Final = 256 * 1024
"""Bytes that one call may bring beyond what is held back; a codec that was given more at once cannot be moved."""


def held_limit(limits: Limits) -> int:
    """Return how many bytes of later requests, or of a tunnel not granted yet, a codec holds back."""
    return _HELD_HEADS * limits.max_head_bytes


def pack(snapshot: Snapshot, role: Role) -> bytes:
    """Write a snapshot down."""
    phase = snapshot.phase
    fields = (
        role.value,
        snapshot.reading.value,
        snapshot.writing.value,
        snapshot.flags,
        snapshot.draining,
        snapshot.ended,
        snapshot.blank_lines,
        snapshot.left,
        snapshot.owed,
        phase.value if phase is not None else _NO_PHASE,
        snapshot.chunk_left,
        snapshot.extensions,
        snapshot.buffer,
        snapshot.upgrade,
        snapshot.accept,
    )
    return pack_state(NAME, VERSION, fields)


_TYPES: Final = (str, str, str, int, bool, bool, int, int, int, str, int, int, bytes, str, str)


class _Fields:
    """The fields of a snapshot, one after another, each with its type and range checked."""

    def __init__(self, fields: list[object]) -> None:
        self._rest = iter(fields)

    def take(self, kind: type[T]) -> T:
        field = next(self._rest)
        if not isinstance(field, kind):
            raise ValueError(f"a field is not {kind.__name__}")
        return field

    def number(self, highest: int) -> int:
        value = self.take(int)
        if not 0 <= value <= highest:
            raise ValueError(f"a number is not from 0 to {highest}")
        return value


def unpack(state: bytes, role: Role, limits: Limits) -> Snapshot:
    """Read a snapshot of a codec of this role. Raises ValueError for anything else."""
    fields = _Fields(unpack_state(NAME, VERSION, _TYPES, state))
    if fields.take(str) != role.value:
        raise ValueError("a snapshot of the other role")
    snapshot = Snapshot(
        reading=Reading(fields.take(str)),
        writing=Writing(fields.take(str)),
        flags=fields.number(ALL_FLAGS),
        draining=fields.take(bool),
        ended=fields.take(bool),
        blank_lines=fields.number(MAX_BLANK_LINES),
        left=fields.number(MAX_LENGTH),
        owed=fields.number(MAX_LENGTH),
        phase=Phase(text) if (text := fields.take(str)) != _NO_PHASE else None,
        chunk_left=fields.number(MAX_LENGTH),
        extensions=fields.number(limits.max_chunk_extensions_bytes),
        buffer=fields.take(bytes),
        upgrade=fields.take(str),
        accept=fields.take(str),
    )
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
