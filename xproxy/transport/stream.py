"""What a driver needs of a socket, whatever is below it: a polled socket, a Trio stream, TLS."""

from __future__ import annotations

import socket
from typing import Protocol, TypeGuard, runtime_checkable

import trio

from xproxy.model.address import Address


class ByteStream(Protocol):
    """A connected, bidirectional stream of bytes. One task may read and one may write at a time."""

    peer: Address
    local: Address
    half_close: bool
    """A peer that only finished sending is not gone; set by whoever knows the protocol."""

    @property
    def hung_up(self) -> bool:
        """The peer has closed, or shut down its sending side. Unread bytes may still be there."""
        ...

    @property
    def pending(self) -> bool:
        """Bytes, an error or the end are known to be there unread."""
        ...

    async def read(self) -> bytes:
        """Return what has come, at least one byte; ``b""`` at the end. A checkpoint if nothing is there.

        Raises trio.BrokenResourceError if the connection broke, trio.ClosedResourceError if it was closed here.
        """
        ...

    def read_now(self) -> bytes | None:
        """Return what ``read`` would return at once; None: nothing is there. Not while somebody waits in ``read``."""
        ...

    def settle(self, more: float = 0.0) -> None:
        """What was read last has been dealt with: count the time since then, and ``more`` seconds that will follow.

        A stream that used much waits for its turn before it reads on (see ``turns.py``). Whoever reads in a loop and
        does not wait in between calls it after each read.
        """
        ...

    async def turn(self) -> None:
        """Settle in the middle of what was read, and let others run. A checkpoint always."""
        ...

    async def pause(self, seconds: float) -> None:
        """Other work for this stream took so many seconds at a stretch: let others run before it goes on.

        A checkpoint always; any number of tasks may wait.
        """
        ...

    def write_now(self, data: bytes | memoryview) -> int:
        """Hand bytes to the kernel and return how many it took (0 … all). Never blocks.

        What it did not take must be offered again before anything else: a TLS stream has encrypted it already.
        Raises trio.BrokenResourceError.
        """
        ...

    async def wait_writable(self) -> None:
        """Wait until ``write_now`` may take more. Raises like ``read``."""
        ...

    def watch(self, scope: trio.CancelScope | None) -> None:
        """Cancel ``scope`` as soon as the peer hangs up, also while nobody reads."""
        ...

    def shutdown_write(self) -> None:
        """Tell the peer that nothing more will come; it may still send."""
        ...

    def close(self) -> None:
        """Close at once; wakes whoever waits, with ClosedResourceError. Idempotent."""
        ...

    def abort(self) -> None:
        """Close with a reset, so that the peer cannot take what it got for the whole. Idempotent."""
        ...


class Moved(trio.ClosedResourceError):
    """Another process has the connection now: what was waited for happens there."""


@runtime_checkable
class MovableStream(ByteStream, Protocol):
    """A stream whose socket may be given to another process: suspended first, then resumed or left."""

    @property
    def awaited(self) -> bool:
        """A task waits in ``read``; nothing that it would return at once is here."""
        ...

    @property
    def amid(self) -> bool:
        """A task waits with bytes in hand that are neither here nor read: it cannot be suspended, look again."""
        ...

    def suspend(self) -> socket.socket:
        """Report nothing and take nothing from here on; who waits goes on waiting. Returns the socket, to be sent.

        Who comes to read or to wait meanwhile waits too; what would not wait raises trio.ClosedResourceError, as does
        this for a stream that was closed.
        """
        ...

    def export(self) -> bytes:
        """Return what is needed besides the socket to go on elsewhere; empty: nothing is. Call it while suspended."""
        ...

    def resume(self) -> None:
        """Go on as if nothing had been: what came meanwhile is reported at once. Idempotent."""
        ...

    def beside(self, sock: socket.socket) -> ByteStream:
        """Take over another connected socket, which does not block: a stream as this one is, without TLS."""
        ...

    def leave(self) -> None:
        """The other process has it: close our copy, of which its peer notices nothing, and wake who waits: Moved."""
        ...


async def write_all(stream: ByteStream, data: bytes | memoryview) -> None:
    """Write all of ``data``. A checkpoint only where the kernel does not take it at once."""
    sent = stream.write_now(data)
    if sent == len(data):
        return
    with memoryview(data) as view:
        while sent < len(view):
            await stream.wait_writable()
            sent += stream.write_now(view[sent:])


def is_movable(stream: ByteStream) -> TypeGuard[MovableStream]:
    """Whether the stream's socket may be given to another process."""
    # By its class: a protocol's isinstance would look at every property of the stream itself, 60 µs over TLS.
    return hasattr(type(stream), "suspend")
