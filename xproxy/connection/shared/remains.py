"""What is left of a shared connection that has ended, for those of its parts that others still hold.

While it lives the connection and its parts know one another; at the end that would be a circle, of which only a
collector frees anything, with all that hangs on it.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import trio

from xproxy.codecs.api import Codec, SupportsFlow, SupportsPreparing
from xproxy.connection.shared.outbox import Outbox
from xproxy.connection.shared.outflow import Outflow
from xproxy.model.traits import Role
from xproxy.stream.exchange import ConnectionFacts
from xproxy.stream.held import Share
from xproxy.transport.stream import ByteStream
from xproxy.transport.timers import Timers


class Remains:
    """A connection on which nothing comes, goes or begins any more. It knows none of the parts that know it."""

    closing = True
    crowded = False
    deaf = False
    read_at = -math.inf

    def __init__(
        self,
        stream: ByteStream,
        codec: Codec,
        outbox: Outbox,
        outflow: Outflow,
        facts: ConnectionFacts,
        timers: Timers,
        role: Role,
        *,
        whole: bool,
    ) -> None:
        self.stream = stream
        self.codec = codec
        self.outbox = outbox
        self.outflow = outflow
        self.facts = facts
        self.share: Share = facts.share
        self.timers = timers
        self.role = role
        self.whole = whole
        self.flow: SupportsFlow | None = None
        self.preparing: SupportsPreparing | None = None

    def abandon(self, stream_id: int) -> None:
        """Do nothing: nobody is told any more."""

    def consumed(self, stream_id: int, count: int) -> None:
        """Do nothing: no credit is given any more."""

    def release(self, stream_id: int) -> None:
        """Do nothing: no stream is open any more."""

    def finish_if_idle(self) -> None:
        """Do nothing: it has ended."""

    def forsake(self) -> None:
        """Do nothing: nobody is served any more."""

    def leave(self) -> None:
        """Do nothing: it takes no requests."""

    def spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        """Raise trio.ClosedResourceError: there is nobody to do it."""
        raise trio.ClosedResourceError("the connection has ended")
