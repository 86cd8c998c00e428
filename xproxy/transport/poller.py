"""One edge-triggered epoll for all sockets, and Trio waits on that one.

Trio registers a file descriptor anew for each wait, about 5 µs of a request's 40. Here each is registered once; a
task reads the events of a tick in one call and wakes those who wait. Where there is no epoll, and in tests,
``trio_stream.py`` serves instead.
"""

from __future__ import annotations

import select
import socket
from collections.abc import AsyncGenerator, Generator
from typing import Final, TypeVar, final

import trio
from outcome import Error, Outcome

from xproxy.model.address import Address

R = TypeVar("R")

_READ: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_WRITE: Final = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR
_HANGUP: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_INTEREST: Final = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_BATCH: Final = 512
"""Events taken in one call; more wait for the next tick, so that no tick grows without bound."""

_SMALL_READ: Final = 16 * 1024
_LARGE_READ: Final = 256 * 1024
_BYTES_IN_A_ROW: Final = 1024 * 1024
"""Bytes read without waiting after which a task lets the others run …"""
_COUNTED_READ: Final = 64 * 1024
"""… where a read counts as so many at least: 16 small ones, or 4 large ones."""


@final
class _Awake(Outcome[None]):
    """What a woken task gets. Trio makes a new ``Value(None)`` for every wake-up, at 0.7 µs; one serves for all."""

    __slots__ = ()

    def unwrap(self) -> None:
        return None

    def send(self, gen: Generator[R, None, object]) -> R:
        return gen.send(None)

    async def asend(self, agen: AsyncGenerator[R, None]) -> R:
        return await agen.asend(None)


AWAKE: Final = _Awake()


class Poller:
    """Owns the epoll and its sockets. ``run`` must be running while any of them is used."""

    __slots__ = ("_epoll", "_sockets")

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._sockets: dict[int, PolledSocket] = {}

    async def run(self) -> None:
        """Wake tasks for ever. Cancel it to stop, after the sockets' users."""
        poll = self._epoll.poll
        sockets = self._sockets
        fd = self._epoll.fileno()
        reschedule = trio.lowlevel.reschedule
        while True:
            await trio.lowlevel.wait_readable(fd)
            for number, events in poll(0, _BATCH):
                polled = sockets.get(number)
                if polled is None:
                    continue  # closed by somebody earlier in this tick
                if events & _READ:
                    polled.pending = True
                    task = polled._reader
                    if task is not None:
                        polled._reader = None
                        reschedule(task, AWAKE)
                if events & _WRITE:
                    task = polled._writer
                    if task is not None:
                        polled._writer = None
                        reschedule(task, AWAKE)
                if events & _HANGUP:
                    polled.hung_up = True
                    if polled._watch is not None and (
                        not polled.half_close or events & select.EPOLLERR
                    ):
                        polled._watch.cancel()

    def add(self, sock: socket.socket, peer: Address, local: Address) -> PolledSocket:
        """Take over a non-blocking socket."""
        polled = PolledSocket(self, sock, peer, local)
        self._sockets[sock.fileno()] = polled
        try:
            self._epoll.register(sock.fileno(), _INTEREST)
        except BaseException:
            del self._sockets[sock.fileno()]
            raise
        return polled

    def forget(self, polled: PolledSocket, fd: int) -> None:
        """Drop a socket that is about to be closed."""
        if self._sockets.get(fd) is polled:
            del self._sockets[fd]
            self._epoll.unregister(fd)

    def close(self) -> None:
        """Release the epoll itself. Idempotent."""
        self._epoll.close()

    def __len__(self) -> int:
        return len(self._sockets)


class PolledSocket:
    """A connected socket registered with a Poller; a ByteStream."""

    __slots__ = (
        "_poller",
        "_reader",
        "_size",
        "_streak",
        "_watch",
        "_writer",
        "half_close",
        "hung_up",
        "local",
        "peer",
        "pending",
        "sock",
    )

    def __init__(self, poller: Poller, sock: socket.socket, peer: Address, local: Address) -> None:
        self.sock: socket.socket | None = sock
        self.peer = peer
        self.local = local
        self.pending = False
        self.hung_up = False
        self.half_close = False
        """A peer that only finished sending is not gone."""
        self._poller = poller
        self._reader: trio.lowlevel.Task | None = None
        self._writer: trio.lowlevel.Task | None = None
        self._watch: trio.CancelScope | None = None
        self._size = _SMALL_READ
        self._streak = 0

    async def read(self) -> bytes:
        """See ByteStream. One system call a read: after a short one the kernel has no more until the next edge."""
        if self.pending:
            self._streak += max(self._size, _COUNTED_READ)
            if self._streak >= _BYTES_IN_A_ROW:
                self._streak = 0
                await trio.lowlevel.checkpoint()
        while True:
            if not self.pending:
                self._streak = 0
                if self.sock is None:
                    raise trio.ClosedResourceError("socket was closed")
                if self._reader is not None:
                    raise trio.BusyResourceError("another task reads this socket")
                self._reader = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._abort_read)
            sock = self.sock
            if sock is None:
                raise trio.ClosedResourceError("socket was closed")
            size = self._size
            try:
                data = sock.recv(size)
            except BlockingIOError:
                self.pending = False
                continue
            except OSError as exc:
                raise trio.BrokenResourceError(f"read: {exc.strerror}") from exc
            got = len(data)
            if got < size:
                # The end needs a read of its own: its edge may have come together with these bytes.
                self.pending = self.hung_up
                if size > _SMALL_READ and got < size >> 2:
                    self._size = size >> 1
            elif size < _LARGE_READ:
                self._size = size << 1
            return data

    def read_now(self) -> bytes | None:
        """See ByteStream. One system call at most."""
        sock = self.sock
        if sock is None:
            raise trio.ClosedResourceError("socket was closed")
        if not self.pending:
            return None
        try:
            data = sock.recv(_SMALL_READ)
        except BlockingIOError:
            self.pending = False
            return None
        except OSError as exc:
            raise trio.BrokenResourceError(f"read: {exc.strerror}") from exc
        if len(data) < _SMALL_READ:
            self.pending = self.hung_up
        return data

    def fileno(self) -> int:
        """Return the socket's file descriptor. Raises trio.ClosedResourceError."""
        if self.sock is None:
            raise trio.ClosedResourceError("socket was closed")
        return self.sock.fileno()

    async def wait_readable(self) -> None:
        """Wait until ``pending``; for those who read by other means than ``read``."""
        while not self.pending:
            if self.sock is None:
                raise trio.ClosedResourceError("socket was closed")
            if self._reader is not None:
                raise trio.BusyResourceError("another task reads this socket")
            self._reader = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort_read)

    def _abort_read(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._reader = None
        return trio.lowlevel.Abort.SUCCEEDED

    def write_now(self, data: bytes | memoryview) -> int:
        """See ByteStream."""
        sock = self.sock
        if sock is None:
            raise trio.ClosedResourceError("socket was closed")
        try:
            return sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as exc:
            raise trio.BrokenResourceError(f"write: {exc.strerror}") from exc

    async def wait_writable(self) -> None:
        """See ByteStream. Wait for the edge after a short write."""
        if self.sock is None:
            raise trio.ClosedResourceError("socket was closed")
        if self._writer is not None:
            raise trio.BusyResourceError("another task writes to this socket")
        self._writer = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort_write)
        if self.sock is None:
            raise trio.ClosedResourceError("socket was closed")

    def _abort_write(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._writer = None
        return trio.lowlevel.Abort.SUCCEEDED

    def watch(self, scope: trio.CancelScope | None) -> None:
        """See ByteStream. A peer that is gone already cancels at once."""
        self._watch = scope
        if scope is not None and self.hung_up and not self.half_close:
            scope.cancel()

    def shutdown_write(self) -> None:
        """See ByteStream."""
        if self.sock is not None:
            try:
                self.sock.shutdown(socket.SHUT_WR)
            except OSError:
                # The peer reset the connection before: there is nobody left to tell, and read says so.
                self.hung_up = self.pending = True

    def close(self) -> None:
        """See ByteStream."""
        sock, self.sock = self.sock, None
        if sock is None:
            return
        self._poller.forget(self, sock.fileno())
        sock.close()
        self._watch = None
        for task in (self._reader, self._writer):
            if task is not None:
                trio.lowlevel.reschedule(task, Error(trio.ClosedResourceError("socket was closed")))
        self._reader = self._writer = None

    def abort(self) -> None:
        """See ByteStream: SO_LINGER with a time of 0 makes close send RST."""
        if self.sock is not None and self.sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()
