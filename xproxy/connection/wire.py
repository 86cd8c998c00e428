"""Codec and socket of one connection.

Rule of this file: nobody else keeps either, nor anything that is one of them in another guise, across an ``await``.
Who waits looks here again afterwards. So another codec and another socket can take their place (``become``) while
streams wait for their answers, and the connection can be given to another process with all that is known of it.
"""

from __future__ import annotations

import socket

import attrs
import trio

from xproxy.codecs.api import (
    Codec,
    SupportsPreparing,
    SupportsProgress,
    SupportsSnapshot,
    supports,
)
from xproxy.connection.phase import TRANSITIONS, Event, Phase
from xproxy.stream.held import Share
from xproxy.transport.stream import ByteStream, MovableStream, is_movable


class WriteStalled(trio.BrokenResourceError):
    """The peer took nothing for too long."""


@attrs.frozen(kw_only=True)
class Parts:
    """What another process needs to go on with a connection, besides its socket."""

    codec: bytes
    """The codec's snapshot."""
    stream: bytes
    """What is kept of TLS; empty where there is none."""
    unsent: bytes
    """What the kernel has not taken yet: it goes out before anything else. Over TLS its first bytes may have been
    sealed already, so that it must be offered first, and whole."""


class Wire:
    """The part of every connection that knows bytes. Each kind of driver has its own."""

    __slots__ = ("codec", "paused", "phase", "preparing", "progress", "share", "stream")

    def __init__(self, stream: ByteStream, codec: Codec, share: Share | None = None) -> None:
        self.share = share
        """Whose bytes are held; None: nobody's for now, and they are not counted."""
        self.phase = Phase.SERVING
        self.paused = False
        """It stands still: see ``pause``."""
        self.become(stream, codec)

    def become(self, stream: ByteStream, codec: Codec) -> None:
        """Take another codec and socket. Who waits on the ones before is not woken by this."""
        self.stream = stream
        self.codec = codec
        self.preparing: SupportsPreparing | None = (
            codec if supports(codec, SupportsPreparing) else None
        )
        self.progress: SupportsProgress | None = (
            codec if supports(codec, SupportsProgress) else None
        )

    def after(self, event: Event) -> None:
        """Go to the phase that comes after ``event``."""
        self.phase = TRANSITIONS[self.phase, event]

    @property
    def half(self) -> bool:
        """The peer owes us the rest of something; False also where its codec cannot tell."""
        return self.progress is not None and self.progress.unfinished

    # ---- moving to another process

    @property
    def awaited(self) -> bool:
        """A task waits for the peer's next bytes; False also where the stream cannot move."""
        return is_movable(self.stream) and self.stream.awaited

    @property
    def movable(self) -> bool:
        """Its stream can be given to another process."""
        return is_movable(self.stream)

    @property
    def unsettled(self) -> bool:
        """It is in the middle of a step of its stream's own that ends soon."""
        return is_movable(self.stream) and self.stream.amid

    def pause(self) -> socket.socket:
        """Read and write nothing from here on; who waits goes on waiting. Returns the socket, to be sent.

        Raises trio.ClosedResourceError where there is nothing to pause any more, ValueError where the stream cannot.
        """
        sock = self._movable.suspend()
        self.paused = True
        return sock

    def resume(self) -> None:
        """Go on as if nothing had been. Idempotent."""
        self.paused = False
        self._movable.resume()

    def leave(self) -> None:
        """Another process has it: close our copy, of which the peer notices nothing, and wake who waits: Moved."""
        if self.phase is Phase.CLOSED:
            return  # it was ended meanwhile
        self.after(Event.CLOSE)
        self._movable.leave()
        self.paused = False

    def export(self) -> Parts:
        """Return what another process needs. Call it while paused, not amid a frame.

        What TLS owes counts as unsent then; else nothing changes.

        Raises ValueError if its codec or its stream cannot be written down, TlsError if its TLS session cannot.
        """
        codec = self.codec
        if not supports(codec, SupportsSnapshot):
            raise ValueError("its codec cannot be written down")
        return Parts(
            codec=codec.snapshot(),
            stream=self._movable.export(),
            unsent=self.unsent(),
        )

    def unsent(self) -> bytes:
        """Return what the kernel has not taken, in order."""
        raise NotImplementedError

    @property
    def _movable(self) -> MovableStream:
        if not is_movable(self.stream):
            raise ValueError("its stream cannot be given to another process")
        return self.stream
