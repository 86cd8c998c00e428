"""What there is of a link to an older process, and of each stream on it. Nothing here does anything."""

from __future__ import annotations

from collections import deque
from typing import Final

import trio

from xproxy.codecs.relay.codec import RelayCodec
from xproxy.connection.shared.outbox import FOREVER, Outbox
from xproxy.connection.standing import RelayedStream
from xproxy.model.frames import Data, Frame, Head, Reset, Trailers
from xproxy.model.limits import KIB, MIB, Limits
from xproxy.transport.stream import ByteStream, MovableStream, is_movable

LINK_LIMITS: Final = Limits(
    max_head_bytes=MIB, max_headers=10_000, max_streams=1_000_000, max_message_bytes=64 * MIB
)
"""Of both ends of a link: above all that a client's or an upstream's codec lets through."""
_OUTBOX: Final = 256 * KIB
"""Bytes that wait for an older process: a mark, no bound, as the client's windows are one."""


class Relayed:
    """One stream."""

    __slots__ = ("answered", "begun", "complete", "held", "id", "link", "moved_at", "waiting")

    def __init__(self, link: Link, stream: RelayedStream) -> None:
        self.link = link
        self.id = stream.id
        self.complete = stream.complete
        """All of its request has come."""
        self.begun = stream.begun
        """The head of its answer has gone."""
        self.answered = not link.codec.hears(stream.id)
        """All of its answer has gone, or been thrown away."""
        self.moved_at = trio.current_time()
        """When something last went to the client, or came for it when nothing waited (trio clock)."""
        self.held = 0
        """Bytes that wait."""
        self.waiting: deque[Frame] = deque()
        """What has come for the client and not gone yet: bounded by the stream's window on the link."""

    @property
    def ends(self) -> bool:
        """Whether the end of its answer is among what waits."""
        if not self.waiting:
            return False
        last = self.waiting[-1]
        return isinstance(last, Trailers | Reset) or (isinstance(last, Head | Data) and last.end)

    @property
    def state(self) -> RelayedStream:
        """What another process needs to know of it."""
        return RelayedStream(id=self.id, complete=self.complete, begun=self.begun)


class Link:
    """Our end of the link to one older process."""

    __slots__ = ("codec", "outbox", "over", "ready", "scope", "stream", "streams")

    def __init__(self, stream: ByteStream | None, codec: RelayCodec, unsent: bytes) -> None:
        self.stream = stream
        """None: its process has said all."""
        self.codec = codec
        self.outbox = Outbox(_OUTBOX, FOREVER)
        self.outbox.put(unsent)
        self.streams: dict[int, Relayed] = {}
        self.ready: dict[int, Relayed] = {}
        """Those of which something waits."""
        self.over = False
        """Nothing more comes."""
        self.scope = trio.CancelScope()
        """Round all that is done for it."""

    @property
    def movable(self) -> MovableStream | None:
        """Its stream, where it has one."""
        stream = self.stream
        return stream if stream is not None and is_movable(stream) else None
