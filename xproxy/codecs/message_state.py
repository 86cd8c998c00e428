"""What a connection of a message protocol remembers, and how it is written down (see ``messages.py``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from xproxy.codecs.packing import MAX_STATE_BYTES
from xproxy.codecs.state_kinds import FLAG, Kind, mapping, number, octets
from xproxy.codecs.state_schema import StateRecord, StateSchema, by_place, state_field

VERSION: Final = 3
_PACKED: Final = 1 << 63
"""The first number that is written as bytes: an id that stands for a text may be larger than any of msgpack's."""
_LONGEST_ID: Final = 2048
"""Bytes of such a number."""
_LONGEST_ID_DIGITS: Final = 4000
"""The same in version 2, which wrote decimal digits."""
_MOST: Final = (1 << 64) - 1


@attrs.frozen(kw_only=True)
class MessageState:
    """Everything that a codec's future depends on, besides its limits."""

    held: bytes
    """Received and not read yet: an unfinished message, or one that is being read and those behind it."""
    owed: dict[int, int]
    """Dialects of the requests that are owed an answer, by id, in their order."""
    dialect: int
    """Last heard; 0: none yet."""
    goaway_heard: bool
    over: bool
    """Nothing is received any more."""
    refused: int
    skip: int
    """Bytes of a message that could not be taken, still to come."""

    def __attrs_post_init__(self) -> None:
        if self.skip and (self.held or self.over):
            raise ValueError("skips bytes and holds some, or is over")


def _write_id(stream_id: int) -> object:
    if stream_id < _PACKED:
        return stream_id
    return stream_id.to_bytes((stream_id.bit_length() + 7) // 8)


def _read_id(found: object) -> int:
    if type(found) is int and found < _PACKED:
        return found
    if type(found) is bytes and len(found) <= _LONGEST_ID and found[:1] != b"\0":
        stream_id = int.from_bytes(found)
        if stream_id >= _PACKED:
            return stream_id
    raise ValueError("is no id")


def _read_digits(found: object) -> int:
    """Read an id of version 2."""
    if type(found) is int:
        return found
    if (
        isinstance(found, str)
        and found.isascii()
        and found.isdigit()
        and len(found) < _LONGEST_ID_DIGITS
        and int(found) >= _PACKED
    ):
        return int(found)
    raise ValueError("is no id")


def _write_owed(owed: dict[int, int]) -> object:
    if max(owed, default=0) < _PACKED:
        return owed  # as nearly always: spares a step for each
    return {_write_id(stream_id): dialect for stream_id, dialect in owed.items()}


def _owed(read_id: Callable[[object], int]) -> Kind[dict[int, int]]:
    read = mapping(Kind(read_id), number(0, _MOST), MAX_STATE_BYTES).read
    return Kind(read, _write_owed)


def _record(owed: Kind[dict[int, int]]) -> StateRecord[MessageState]:
    return StateRecord(
        MessageState,
        state_field("held", octets(MAX_STATE_BYTES), b""),
        state_field("owed", owed, {}),
        state_field("dialect", number(0, _MOST), 0),
        state_field("goaway_heard", FLAG, False),
        state_field("over", FLAG, False),
        state_field("refused", number(0, _MOST), 0),
        state_field("skip", number(0, _MOST), 0),
    )


_RECORD: Final = _record(_owed(_read_id))
# In version 2 these were the fields, by their place.
_RECORD_2: Final = _record(_owed(_read_digits))
_PLACES: Final = ("held", "owed", "dialect", "goaway_heard", "over", "refused", "skip")


def _read_version_2(parts: list[object]) -> MessageState:
    return _RECORD_2.read(by_place(_PLACES, parts))


_PREVIOUS: Final = {2: _read_version_2}


VERSIONS: Final = (*_PREVIOUS, VERSION)
"""That are read; the last one is written."""


def schema(codec: str) -> StateSchema[MessageState]:
    """Return how the state of a protocol of this name is written."""
    return StateSchema(codec, VERSION, _RECORD, _PREVIOUS)
