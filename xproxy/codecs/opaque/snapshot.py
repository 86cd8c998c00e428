"""An opaque connection's state as versioned msgpack."""

from __future__ import annotations

from typing import Final

from xproxy.codecs.opaque.state import State
from xproxy.codecs.state_kinds import FLAG
from xproxy.codecs.state_schema import StateRecord, StateSchema, by_place, state_field

NAME: Final = "opaque"
VERSION: Final = 2

_RECORD: Final = StateRecord(
    State,
    state_field("started", FLAG, False),
    state_field("peer_ended", FLAG, False),
    state_field("ended", FLAG, False),
    state_field("over", FLAG, False),
)
# In version 1 these were the fields, by their place.
_PLACES: Final = ("started", "peer_ended", "ended", "over")


def _read_version_1(parts: list[object]) -> State:
    return _RECORD.read(by_place(_PLACES, parts))


SCHEMA: Final = StateSchema(NAME, VERSION, _RECORD, {1: _read_version_1})
