"""What an opaque connection remembers: which of its two directions have ended."""

from __future__ import annotations

import attrs


@attrs.define(eq=False)
class State:
    """Both halves of the one stream. Nothing is buffered."""

    started: bool = False
    """The head was given."""
    peer_ended: bool = False
    """The peer's input has ended."""
    ended: bool = False
    """We have ended our output."""
    over: bool = False
    """GoAway was given: nothing follows."""
