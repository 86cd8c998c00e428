"""Whether a connection can be given to another process at the moment, and what goes along with its wire.

Streams stay where their tasks are: a suspended task cannot be written down. So a connection moves between streams.
"""

from __future__ import annotations

import math
import socket
from enum import Enum

import attrs

from xproxy.connection.wire import Parts


class Standing(Enum):
    """What is to be known of a connection before it is frozen."""

    IDLE = "idle"
    """Nothing is in flight, and its driver waits for bytes: it can move as it is."""
    BUSY = "busy"
    """Streams are in flight, and their tasks stay here."""
    NOT_NOW = "not now"
    """In the middle of a step that ends soon: look again."""
    NEVER = "never"
    """It is ending: it does that here."""


@attrs.frozen(kw_only=True)
class Moment:
    """A connection as it stood when it was frozen."""

    parts: Parts
    sock: socket.socket | None = attrs.field(default=None, eq=False)
    """What is given along with it; None in the process that has got it."""
    half: bool = False
    """A message, or the head of one, has come in part."""
    left: float = math.inf
    """Seconds until its client has been silent for too long; infinite: never."""
    last_id: int = 0
    """That of the last request of ours, where ids are ours to choose: answers to earlier ones may still come."""
    patience: float = math.inf
    """Seconds in which the peer must have acknowledged what was said first; infinite: it has, or need not."""
