"""Whose turn it is among endpoints, as it is told to a picker in another process."""

from __future__ import annotations

from typing import Final

import attrs

from xproxy.codecs.state_kinds import amount, sequence, text
from xproxy.codecs.state_schema import StateRecord, StateSchema, state_field

MOST_ENDPOINTS: Final = 65_536
"""Of which one picker tells."""
_NAME_CHARACTERS: Final = 1024
_FURTHEST: Final = 1e9
"""Of what is due: an endpoint comes again after ``1 / weight``, times its requests where the balancer counts them."""


@attrs.frozen
class Turns:
    """Names of endpoints, the next one first, and how far off each is (0: now) where that is more than an order."""

    names: list[str]
    due: list[float] = attrs.field(factory=list)


_SCHEMA: Final = StateSchema(
    "turns",
    1,
    StateRecord(
        Turns,
        state_field("names", sequence(text(_NAME_CHARACTERS), MOST_ENDPOINTS)),
        state_field("due", sequence(amount(_FURTHEST), MOST_ENDPOINTS), []),
    ),
)


def pack_turns(turns: Turns) -> bytes:
    """Write turns down."""
    return _SCHEMA.pack(turns)


def unpack_turns(data: bytes) -> Turns:
    """Read what ``pack_turns`` wrote. Raises ValueError for anything else."""
    turns = _SCHEMA.unpack(data)
    if turns.due and len(turns.due) != len(turns.names):
        raise ValueError("turns of other endpoints than it names")
    return turns
