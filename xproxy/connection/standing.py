"""Whether a connection can be given to another process at the moment, and what goes along with its wire.

Streams stay where their tasks are: a suspended task cannot be written down. So a connection moves between streams;
where many share it, without them; or once no more is left of its stream than bodies that flow.
"""

from __future__ import annotations

import math
import socket
from enum import Enum

import attrs

from xproxy.connection.flowing import FlowingExchange
from xproxy.connection.wire import Parts


class Standing(Enum):
    """What is to be known of a connection before it is frozen."""

    IDLE = "idle"
    """Nothing is in flight, and its driver waits for bytes: it can move as it is."""
    RELAY = "relay"
    """Streams are in flight, and their tasks stay here: it can move without them, and they are served over a link."""
    FLOWING = "flowing"
    """Its one stream is nothing any more but bodies that flow: it can move with it, and with its other end."""
    BUSY = "busy"
    """Streams are in flight that keep it here: look again when they are over."""
    NOT_NOW = "not now"
    """In the middle of a step that ends soon: look again."""
    NEVER = "never"
    """It is ending: it does that here."""


@attrs.frozen(kw_only=True)
class RelayedStream:
    """A stream that is served by an older process than the one that has its connection."""

    id: int
    """The client's."""
    complete: bool
    """All of its request has come."""
    begun: bool
    """The head of its answer has gone to the client."""


@attrs.frozen(kw_only=True)
class OlderLink:
    """The link to a process that is older than the one that gives the connection: it goes along as it is."""

    sock: socket.socket | None = attrs.field(eq=False)
    """None: that process has said all, and what it said has yet to go to the client."""
    codec: bytes
    """The snapshot of our end's codec; what had come over it and not gone to the client is to be received again."""
    unsent: bytes
    """What the kernel has not taken yet."""
    streams: tuple[RelayedStream, ...]


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
    link: socket.socket | None = attrs.field(default=None, eq=False)
    """Where streams are in flight in the process that gives it: the other end of its link to them."""
    relayed: tuple[RelayedStream, ...] = ()
    """These streams, where their protocol has answers; of messages nobody answers nothing need be known."""
    links: tuple[OlderLink, ...] = ()
    """To older processes yet; at most one each."""
    exchange: FlowingExchange | None = None
    """The stream that goes along, of one that was ``FLOWING``."""
