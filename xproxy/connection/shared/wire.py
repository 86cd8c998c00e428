"""Codec and socket of a connection that many streams share, and what every part of that connection asks of it.

The parts (what we ask, what we serve, who watches) know the wire, and the connection knows the parts: none of them
knows the connection, so that nothing of it outlives it in a circle that only a collector finds.
"""

from __future__ import annotations

import contextlib
import math
import socket
from collections.abc import Awaitable, Callable, Collection
from typing import Final

import trio

from xproxy.codecs.api import (
    Codec,
    SupportsBacklog,
    SupportsConcurrency,
    SupportsElapsed,
    SupportsFlow,
    SupportsGoAway,
    SupportsIdWidth,
    SupportsStreamIds,
    supports,
)
from xproxy.connection.phase import Event, Phase
from xproxy.connection.shared.outbox import Outbox
from xproxy.connection.wire import Wire
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Reset, Violation
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.stream.exchange import ConnectionFacts
from xproxy.transport.stream import ByteStream

_MUTE: Final = frozenset((Phase.BROKEN, Phase.CLOSED))
"""Nothing is said any more."""
LARGEST_ID: Final = 0x7FFFFFFF
"""Of our requests, where the protocol has room for as much."""


class SharedWire(Wire):
    """What the parts of one shared connection have in common."""

    __slots__ = (
        "amid",
        "asked",
        "backlog",
        "concurrency",
        "credit",
        "detail",
        "early",
        "elapsed",
        "facts",
        "flow",
        "largest_id",
        "nursery",
        "on_room",
        "open_until",
        "outbox",
        "read_at",
        "read_disabled",
        "reading",
        "relayed",
        "role",
        "served",
        "spoken_at",
        "stream_ids",
        "violation",
        "whole",
        "wide",
    )

    def __init__(
        self,
        stream: ByteStream,
        codec: Codec,
        outbox: Outbox,
        role: Role,
        facts: ConnectionFacts,
        *,
        whole: bool,
    ) -> None:
        self.outbox = outbox
        self.role = role
        self.facts = facts
        self.whole = whole
        """Messages come and go whole (MESSAGES)."""
        self.served: Collection[int] = ()
        """Ids of the peer's streams in flight."""
        self.asked: Collection[int] = ()
        """Ids of ours."""
        self.relayed: Collection[int] = ()
        """Ids of those that an older process serves."""
        self.read_at = 0.0
        """When bytes last came (trio clock)."""
        self.spoken_at = 0.0
        """When a message last came, or a piece of one, and not only what says that the peer lives."""
        self.read_disabled = False
        """Nothing is read at the moment, as there is no room for what would come of it."""
        self.amid = False
        """In the middle of what one read brought."""
        self.open_until = 0.0
        """Not closed before (trio clock), as the peer may not have read our goodbye yet."""
        self.reading = trio.CancelScope()
        """Round all reading."""
        self.violation: Violation | None = None
        self.detail = ""
        """Why it broke."""
        self.credit = trio.lowlevel.ParkingLot()
        """Who waits for the peer to give some."""
        self.on_room: Callable[[], None] | None = None
        """Called when there may be room for a request of ours that had none before, or will be none here any more;
        None: nobody wants to know. It must not block."""
        self.nursery: trio.Nursery | None = None
        self.early: list[Callable[[], Awaitable[None]]] = []
        super().__init__(stream, codec, facts.share)

    def become(self, stream: ByteStream, codec: Codec) -> None:
        """See Wire."""
        super().become(stream, codec)
        self.flow: SupportsFlow | None = codec if supports(codec, SupportsFlow) else None
        self.backlog: SupportsBacklog | None = codec if supports(codec, SupportsBacklog) else None
        self.elapsed: SupportsElapsed | None = codec if supports(codec, SupportsElapsed) else None
        self.concurrency: SupportsConcurrency | None = (
            codec if supports(codec, SupportsConcurrency) else None
        )
        """How many of our requests the peer takes at a time."""
        self.stream_ids: SupportsStreamIds | None = (
            codec if supports(codec, SupportsStreamIds) else None
        )
        """Where it is the codec that numbers our streams."""
        self.largest_id: int = codec.largest_id if supports(codec, SupportsIdWidth) else LARGEST_ID
        self.wide = self.largest_id == LARGEST_ID and self.stream_ids is None
        """Any number that no call in flight has will do as the next one's id."""

    def after(self, event: Event) -> None:
        """See Wire."""
        super().after(event)
        if self.on_room is not None:
            self.on_room()

    @property
    def streams(self) -> int:
        """Streams in flight, both directions."""
        return len(self.served) + len(self.asked) + len(self.relayed)

    @property
    def backlogged(self) -> bool:
        """Whole messages have come that nobody has seen yet."""
        return self.backlog is not None and self.backlog.backlog

    @property
    def gone(self) -> bool:
        """Whether nobody reads our answers any more."""
        phase = self.phase
        if phase is Phase.HEARD or phase is Phase.FINISHED:
            return not self.facts.traits.half_close
        return phase is Phase.BROKEN or phase is Phase.CLOSED

    # ---- for its streams

    def spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run ``work`` until the connection ends. Raises trio.ClosedResourceError once it has."""
        if self.nursery is not None:
            self.nursery.start_soon(work)
        elif self.phase is Phase.CLOSED:
            raise trio.ClosedResourceError("the connection has ended")
        else:
            self.early.append(work)

    def consumed(self, stream_id: int, count: int) -> None:
        """A consumer took body bytes: let the codec give the peer credit for them."""
        if self.flow is not None and count and not self._mute:
            self.outbox.put(self.flow.consumed(stream_id, count))

    def abandon(self, stream_id: int) -> None:
        """A request was answered before it had ended, and the rest is not wanted (RFC 9113 §8.1)."""
        if not self._mute:
            with contextlib.suppress(LocalProtocolError):  # the codec knows already
                self.outbox.put(self.codec.send(Reset(stream_id, Status.OK)))

    @property
    def _mute(self) -> bool:
        return self.phase in _MUTE

    def pause(self) -> socket.socket:
        """See Wire. What is put meanwhile waits."""
        sock = super().pause()
        self.outbox.hold()
        return sock

    def resume(self) -> None:
        """See Wire."""
        super().resume()
        self.outbox.release()

    def unsent(self) -> bytes:
        """See Wire."""
        return self.outbox.unsent()

    # ---- its end

    def goodbye(self) -> None:
        """Say goodbye, if nobody has yet, and end when nothing is in flight."""
        if self.phase is Phase.SERVING:
            self.after(Event.DRAIN)
            if supports(self.codec, SupportsGoAway):
                self.outbox.put(self.codec.goaway())
        self.finish_if_idle()

    def stop_streams(self) -> None:
        """Begin none of ours any more: they go elsewhere, and what is in flight here ends in peace.

        A client's own connection goes on. Without a goodbye: some servers answer nothing more after a client's.
        """
        if self.role is Role.CLIENT:
            self.after(Event.GOODBYE)
            self.finish_if_idle()

    def finish_if_idle(self) -> None:
        """Read no more once nothing is in flight; call it when there will be no new streams."""
        # Before there is a nursery there may be a request in the first bytes.
        if (
            not self.served
            and not self.asked
            and not self.relayed
            and self.nursery is not None
            and not self.amid
            and not self.backlogged
            and trio.current_time() >= self.open_until
        ):
            self.stop_reading()

    def stop_reading(self) -> None:
        """Look at no more of the peer's input."""
        self.after(Event.STOP)
        self.reading.cancel()

    def violated(self, violation: Violation) -> None:
        """The peer has broken its protocol: no more of it is read, and the connection tells it."""
        self.violation = self.violation or violation
        self.after(Event.VIOLATION)
        self.reading.cancel()

    def give_up(self, detail: str) -> None:
        """Nothing more can come or go: end the connection, with a reset. One-way messages are still handled."""
        self.detail = self.detail or detail
        self.after(Event.BREAK)
        self.stream.abort()
        self.reading.cancel()

    def end(self) -> None:
        """The connection has ended. Whoever still knows it, or a part of it, holds nothing of its messages."""
        self.after(Event.CLOSE)
        self.nursery = None
        self.flow = None
        self.stream.close()
        self.codec.receive(None)
        self.read_at = -math.inf
