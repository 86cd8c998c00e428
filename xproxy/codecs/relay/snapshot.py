"""A link's state as versioned msgpack."""

from __future__ import annotations

from typing import Final

from xproxy.codecs.packing import MAX_STATE_BYTES
from xproxy.codecs.relay.state import State, Stream
from xproxy.codecs.relay.wire import LARGEST_ID
from xproxy.codecs.state_kinds import FLAG, choice, mapping, number, octets
from xproxy.codecs.state_schema import StateRecord, StateSchema, state_field
from xproxy.model.traits import Role

NAME: Final = "relay"
VERSION: Final = 1
MOST_CREDIT: Final = 2**32 - 1
"""Bytes that one stream may be given credit for."""
_MOST_STREAMS: Final = 1_000_000

_STREAM: Final = StateRecord(
    Stream,
    state_field("credit", number(0, MOST_CREDIT), 0),
    state_field("speaking", FLAG, True),
    state_field("hearing", FLAG, True),
    state_field("spoken", FLAG, False),
    state_field("heard", FLAG, False),
)
SCHEMA: Final = StateSchema(
    NAME,
    VERSION,
    StateRecord(
        State,
        state_field("role", choice(Role)),
        state_field("whole", FLAG, False),
        state_field("streams", mapping(number(0, LARGEST_ID), _STREAM.kind, _MOST_STREAMS), {}),
        state_field("held", octets(MAX_STATE_BYTES), b""),
        state_field("bye", FLAG, False),
        state_field("violated", FLAG, False),
    ),
)
