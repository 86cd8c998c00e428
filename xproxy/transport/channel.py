"""A channel between two processes of one user: whole messages, with descriptors, over a SEQPACKET socket pair.

Rules of this file:

* A message is whole or not there. What is too long for a datagram goes in a sealed memfd beside it, so that nobody
  can change it while it is read.
* Whoever receives owns the descriptors that came, and closes them: they are closed here on every path but the one
  that returns them.
* ECONNRESET is not the end. The kernel reports it *before* what is queued, where the other side died with something
  unread; whoever stopped there would lose messages that were sent. The end is ``b""``.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Sequence
from types import TracebackType
from typing import Final

import attrs
import trio

from xproxy.model.limits import KIB, MIB
from xproxy.transport.sealed import sealed, unsealed

MAX_MESSAGE_BYTES: Final = 64 * KIB
"""A message with what goes in the same datagram."""
MAX_STATE_BYTES: Final = 32 * MIB
"""What goes beside a message."""
MAX_DESCRIPTORS: Final = 64
"""Of one message; the kernel takes 253."""

IN_A_ROW: Final = 4
"""Messages that are received in one turn where they are there already: in each turn more a connection that was
offered stands still."""

_HEADER: Final = struct.Struct("!BBHI")
# How the state travels, descriptors of the message itself, bytes of the message, bytes of the state.
_INLINE: Final = 0
_BESIDE: Final = 1
_NONE: Final = 2
_CUT_SHORT: Final = int(socket.MSG_TRUNC)
_LOST: Final = int(socket.MSG_CTRUNC)
_SILENTLY: Final = int(socket.MSG_NOSIGNAL)
_UNINHERITED: Final = int(socket.MSG_CMSG_CLOEXEC)
# As plain numbers: what Python makes of a flag costs more than the whole message.
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE((MAX_DESCRIPTORS + 1) * array.array("i").itemsize)
_TRY_AGAIN: Final = frozenset({errno.ETOOMANYREFS, errno.ENOMEM, errno.ENOBUFS, errno.EMFILE})


class NotSent(Exception):
    """A message was not sent, as the kernel had no room for it or its descriptors; another may be."""


class Unheard(Exception):
    """The other side takes nothing any more: it has gone, or reads no further."""


@attrs.define(eq=False)
class Received:
    """A message. Whoever has it closes what came with it, or takes it out."""

    message: bytes
    state: bytes | None = None
    """What came beside it; None: nothing did."""
    descriptors: list[int] = attrs.field(factory=list)
    torn: str = ""
    """Why what came with the message is not what was sent; then there are no descriptors and no state."""

    def take(self) -> list[int]:
        """Return the descriptors, which are the caller's from here on."""
        taken, self.descriptors = self.descriptors, []
        return taken

    def close(self) -> None:
        """Close the descriptors that nobody took. Idempotent."""
        _close(self.take())

    def __enter__(self) -> Received:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Channel:
    """One end. One task may send and one may receive at a time."""

    __slots__ = ("_row", "_sock")

    def __init__(self, sock: socket.socket) -> None:
        """Take over a connected SEQPACKET socket."""
        if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_SEQPACKET:
            raise ValueError("a channel needs a Unix socket of whole messages (SOCK_SEQPACKET)")
        sock.setblocking(False)
        self._sock = sock
        self._row = 0  # how many messages were received without a checkpoint

    @property
    def unread(self) -> int:
        """Bytes of memory that hold what was sent and the other side has not received; 0: it has received all."""
        answer = fcntl.ioctl(self._sock.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
        found: int = struct.unpack("i", answer)[0]
        return found

    # ---- sending

    async def send(
        self,
        message: bytes,
        descriptors: Sequence[int] = (),
        state: bytes | None = None,
        *,
        within: float,
    ) -> None:
        """Send a message. A checkpoint only where there is no room for it now.

        Raises NotSent, Unheard, and trio.TooSlowError if there was no room for ``within`` seconds. ValueError: it is
        too long. In each case nothing of it was sent.
        """
        _check(message, descriptors, state)
        beside = -1
        try:
            body = state or b""
            flag = _NONE if state is None else _INLINE
            if _HEADER.size + len(message) + len(body) > MAX_MESSAGE_BYTES:
                beside, body, flag = _beside(body), b"", _BESIDE
            header = _HEADER.pack(flag, len(descriptors), len(message), len(state or b""))
            every = [*descriptors, beside] if beside >= 0 else list(descriptors)
            ancillary = (
                [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", every))] if every else []
            )
            buffers = [header, message, body]
            if not self._sent(buffers, ancillary):
                with trio.fail_after(within):
                    await self._send(buffers, ancillary)
        finally:
            if beside >= 0:
                os.close(beside)

    async def _send(
        self, buffers: list[bytes], ancillary: list[tuple[int, int, array.array[int]]]
    ) -> None:
        while True:
            await trio.lowlevel.wait_writable(self._sock)
            # Writable and full at once, where many send to one: no reason to spin.
            await trio.lowlevel.checkpoint()
            if self._sent(buffers, ancillary):
                return

    def _sent(
        self, buffers: list[bytes], ancillary: list[tuple[int, int, array.array[int]]]
    ) -> bool:
        # Whether there was room for it. Nearly always there is: then nothing was waited for, nor timed.
        while True:
            try:
                self._sock.sendmsg(buffers, ancillary, _SILENTLY)
            except BlockingIOError:
                return False
            except InterruptedError:
                continue
            except OSError as exc:
                if exc.errno in _TRY_AGAIN:
                    raise NotSent(exc.strerror) from exc
                raise Unheard(exc.strerror) from exc
            return True

    # ---- receiving

    async def receive(self) -> Received | None:
        """Return the next message; None: the other side has gone, or ``stop_receiving`` was called, and all is read.

        Raises ValueError for what is no message; then the next one can be received. Cancelled, it has taken nothing.
        A checkpoint, but for messages that are there already: then every ``IN_A_ROW``-th time.
        """
        while True:
            try:
                data, ancillary, flags, _ = self._sock.recvmsg(
                    MAX_MESSAGE_BYTES + 1, _ANCILLARY_BYTES, _UNINHERITED
                )
            except (BlockingIOError, InterruptedError):
                await trio.lowlevel.wait_readable(self._sock)
                self._row = -1  # that was one
            except OSError as exc:
                if exc.errno != errno.ECONNRESET:
                    raise Unheard(exc.strerror) from exc
            else:
                break
        descriptors = _descriptors(ancillary)
        try:
            self._row += 1
            if self._row >= IN_A_ROW:
                # Also before what is no message: whoever sends without a pause must not hold up everybody else.
                self._row = 0
                await trio.lowlevel.cancel_shielded_checkpoint()
            return _read(data, flags, descriptors) if data else None
        except BaseException:
            _close(descriptors)
            raise

    def stop_receiving(self) -> None:
        """Take nothing that is sent from here on; what was sent before is still received.

        The kernel decides which of two that meet was first: whoever sends later is told Unheard.
        """
        with contextlib.suppress(OSError):  # the other side has gone, and sends nothing anyway
            self._sock.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Close this end. Idempotent."""
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()


def _check(message: bytes, descriptors: Sequence[int], state: bytes | None) -> None:
    if not 0 < len(message) <= MAX_MESSAGE_BYTES - _HEADER.size:
        raise ValueError(f"a message of {len(message)} bytes, limit {MAX_MESSAGE_BYTES}")
    if len(descriptors) > MAX_DESCRIPTORS:
        raise ValueError(f"a message with {len(descriptors)} descriptors, limit {MAX_DESCRIPTORS}")
    if state is not None and len(state) > MAX_STATE_BYTES:
        raise ValueError(f"a state of {len(state)} bytes, limit {MAX_STATE_BYTES}")


def _beside(state: bytes) -> int:
    """Return a memfd that holds ``state``. Raises NotSent."""
    try:
        return sealed(state)
    except OSError as exc:
        raise NotSent(exc.strerror) from exc


def _descriptors(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)


def _read(data: bytes, flags: int, descriptors: list[int]) -> Received:
    # On return the descriptors are in what is returned, or closed.
    if flags & _CUT_SHORT or len(data) > MAX_MESSAGE_BYTES:
        raise ValueError(f"a message above {MAX_MESSAGE_BYTES} bytes")
    if len(data) < _HEADER.size:
        raise ValueError("no message: it ends within its header")
    flag, count, length, state_bytes = _HEADER.unpack_from(data)
    beside, none = flag == _BESIDE, flag == _NONE
    body = data[_HEADER.size :]
    if flag > _NONE or not length or (none and state_bytes) or state_bytes > MAX_STATE_BYTES:
        raise ValueError("no message: its header is none")
    if len(body) != length + (0 if beside else state_bytes):
        raise ValueError("no message: it has another length than it says")
    message = body[:length]
    if flags & _LOST:
        _close(descriptors)
        return Received(message, torn="descriptors were lost on the way: too many are open here")
    if len(descriptors) != count + (1 if beside else 0):
        found = len(descriptors)
        _close(descriptors)
        return Received(message, torn=f"{found} descriptors came, and not as many as were sent")
    state: bytes | None = None if none else body[length:]
    if beside:
        number = descriptors.pop()
        try:
            state = unsealed(number, state_bytes)
        except ValueError as exc:
            _close(descriptors)
            return Received(message, torn=str(exc))
        finally:
            os.close(number)
    return Received(message, state, descriptors)


def _close(descriptors: list[int]) -> None:
    for number in descriptors:
        os.close(number)
    descriptors.clear()
