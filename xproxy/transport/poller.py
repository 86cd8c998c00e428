"""One edge-triggered epoll for all sockets, and Trio waits on that one.

Trio registers a file descriptor anew for each wait, about 5 µs of a request's 40. Here each is registered once; a
task reads the events of a tick in one call and wakes those who wait. Where there is no epoll, and in tests,
``trio_stream.py`` serves instead.
"""

from __future__ import annotations

import errno
import fcntl
import select
import socket
import termios
from array import array
from collections.abc import AsyncGenerator, Generator
from typing import Final, TypeVar, final

import trio
from outcome import Error, Outcome

from xproxy.model.address import Address
from xproxy.stream.held import Held
from xproxy.transport.descriptors import Descriptors
from xproxy.transport.parking import Reason
from xproxy.transport.stream import Moved
from xproxy.transport.turns import LIGHT, SLICE, Account, Turns

R = TypeVar("R")

_READ: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_WRITE: Final = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR
_HANGUP: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_INTEREST: Final = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_BATCH: Final = 512
"""Events taken in one call; more wait for the next tick, so that no tick grows without bound."""

_SMALL_READ: Final = 16 * 1024
_MIDDLE_READ: Final = 64 * 1024
"""Bytes of one read at most, while nothing is known of what they cost …"""
_LARGE_READ: Final = 256 * 1024
"""… and once many of them in a row were cheap."""
_LEAST_READ: Final = 1024
"""Bytes of one read at least, however much they cost."""
_MUCH: Final = 2048
"""Unread bytes that may cost much, from whoever sent them."""
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
_OVER: Final = Reason(lambda _: trio.lowlevel.Abort.SUCCEEDED)
"""Of a socket that is closed: nobody waits."""


class Poller:
    """Owns the epoll and its sockets. ``run`` must be running while any of them is used."""

    __slots__ = ("_epoll", "_sockets", "descriptors", "held", "turns")

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.descriptors = Descriptors()
        """The process's, for whoever opens sockets."""
        self.held = Held()
        """The process's bytes of messages, for whoever has connections."""
        self._sockets: dict[int, PolledSocket] = {}
        self.turns = Turns(self.idle)

    async def run(self) -> None:
        """Wake tasks for ever. Cancel it to stop, after the sockets' users."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.turns.run)
            fd = self._epoll.fileno()
            while True:
                await trio.lowlevel.wait_readable(fd)
                self._wake()

    def idle(self) -> bool:
        """Look at the sockets; return whether nobody has anything to do but who waits for a turn."""
        self._wake()
        return trio.lowlevel.current_statistics().tasks_runnable == 0

    def _wake(self) -> None:
        sockets = self._sockets
        reschedule = trio.lowlevel.reschedule
        self.turns.tick()
        for number, events in self._epoll.poll(0, _BATCH):
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
                else:
                    polled.writable = True
            if events & _HANGUP:
                polled.hung_up = True
                if polled._watch is not None and (
                    not polled.half_close or events & select.EPOLLERR
                ):
                    polled._watch.cancel()

    def add(self, sock: socket.socket, peer: Address, local: Address) -> PolledSocket:
        """Take over a non-blocking socket."""
        polled = PolledSocket(self, sock, peer, local)
        self.register(polled, sock.fileno())
        return polled

    def register(self, polled: PolledSocket, fd: int) -> None:
        """Report what happens to a socket from now on, and at once what is there already."""
        self._sockets[fd] = polled
        try:
            self._epoll.register(fd, _INTEREST)
        except BaseException:
            del self._sockets[fd]
            raise

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
        "__weakref__",
        "_account",
        "_begun",
        "_clock",
        "_got",
        "_heavy",
        "_left",
        "_most",
        "_poller",
        "_reader",
        "_reset",
        "_row_begun",
        "_size",
        "_still",
        "_streak",
        "_suspended",
        "_turns",
        "_unread",
        "_unwritten",
        "_watch",
        "_writer",
        "half_close",
        "hung_up",
        "local",
        "peer",
        "pending",
        "sock",
        "upstream",
        "writable",
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
        self.writable = False
        """An edge came after the last short write, and nobody waited for it."""
        self._unread = Reason(self._abort_read)
        self._unwritten = Reason(self._abort_write)
        self._watch: trio.CancelScope | None = None
        self.upstream = False
        """What comes here belongs to many clients (see Turns); set by who connects."""
        self._suspended: socket.socket | None = None
        self._still: trio.Event | None = None  # somebody waits for the end of that
        self._left = False
        self._reset = False
        self._heavy = False  # its last turn was not light, if nobody had to wait for it
        self._size = _SMALL_READ
        self._most = _MIDDLE_READ  # what _size may become
        self._got = -1  # bytes of the last read; -1: nothing was read yet
        self._streak = 0
        self._row_begun = 0.0
        self._turns = poller.turns
        self._clock = poller.turns.clock
        self._begun = 0.0  # when what was read last came into our hands; 0: what it cost is counted
        self._account: Account | None = None  # None: all its turns are light

    async def read(self) -> bytes:
        """See ByteStream. One system call a read: after a short one the kernel has no more until the next edge."""
        if self.pending:
            if not self._streak:
                self._row_begun = self._clock()
            self._streak += max(self._size, _COUNTED_READ)
            if self._streak >= _BYTES_IN_A_ROW:
                await self._end_row()
        while True:
            if not self.pending:
                self._streak = 0
                if self.sock is None:
                    await self.resumed()
                    continue
                if self._reader is not None:
                    raise trio.BusyResourceError("another task reads this socket")
                self._reader = trio.lowlevel.current_task()
                await self._unread.parked()
            if self._account is not None or self._turns.busy:
                await self._queue()
            begun = self._clock()
            sock = self.sock
            if sock is None:
                await self.resumed()
                continue
            size = self._size
            try:
                data = sock.recv(size)
            except BlockingIOError:
                self.pending = False
                continue
            except OSError as exc:
                raise trio.BrokenResourceError(f"read: {exc.strerror}") from exc
            self._got = got = len(data)
            if got < size:
                if not got and self._reset:
                    raise trio.BrokenResourceError("read: Connection reset by peer")
                # The end needs a read of its own: its edge may have come together with these bytes.
                self.pending = self.hung_up
                if size > _SMALL_READ and got < size >> 2:
                    self._size = size >> 1
            elif size < self._most:
                self._size = min(size << 1, self._most)
            self._begun = begun
            return data

    async def _queue(self) -> None:
        # Before a read, where costly ones may have to be waited behind.
        turns = self._turns
        if self._account is not None:
            if self.sock is not None:
                await self._turn(self._account)
            return
        if turns.calm():
            return
        if self._heavy:
            self._heavy = False
        elif not self.upstream:  # whoever gets its answers has pressed by asking, or is costly
            turns.press(new=self._got < 0)
        if (turns.pressed or turns.late(self._clock())) and self._may_cost():
            self._account = turns.newcomer(upstream=self.upstream)
            self._size = min(self._size, _MUCH)
            await turns.wait(self._account)
            self._account = None  # quick, until it turns out not to be

    def _may_cost(self) -> bool:
        # Costly ones have had their time just now. Who is new, or has sent much, takes a turn as they do, once: else
        # as many as like could be costly for the first time in one round of the loop.
        if not self._turns.running or self.sock is None or self.upstream:
            return False
        if self._got < 0:
            return True
        waiting = array("i", (0,))
        fcntl.ioctl(self.sock.fileno(), termios.FIONREAD, waiting)
        return waiting[0] >= _MUCH

    def settle(self, more: float = 0.0) -> None:
        """See ByteStream."""
        begun = self._begun
        if begun:
            self._begun = 0.0
            now = self._clock()
            took = now - begun
            if self._account is None:
                if took + more <= LIGHT:
                    return
                if now - self._turns.looked_at + more <= self._turns.grace:
                    self._heavy = True
                    return
            more += took if took <= LIGHT else self._turns.spent(took)
        elif not more:
            return
        if more > LIGHT:
            self._charge(more)
        elif self._account is not None and self._got >= self._most >> 1:
            # Light turns are not counted: else who is busy would never be forgiven what took long once.
            self._most = min(self._most << 1, _MIDDLE_READ)

    async def turn(self) -> None:
        """See ByteStream."""
        self.settle()
        if self.sock is None:
            await self.resumed()
        if self._account is None or not await self._turn(self._account):
            await trio.lowlevel.checkpoint()
        self._begun = self._clock()

    async def pause(self, seconds: float) -> None:
        """See ByteStream. On an account of its own, a newcomer's, as the reader may wait at the same time."""
        turns = self._poller.turns
        account = turns.account(upstream=False)
        turns.charge(account, seconds)
        # Pressed or not: of such work there may be any number at a time.
        if turns.crowded():
            await turns.wait(account)
        else:
            await trio.lowlevel.checkpoint()

    def begin(self) -> None:
        """A turn begins: for those who read by other means than ``read``."""
        self._begun = self._clock()

    def _charge(self, seconds: float) -> None:
        turns = self._poller.turns
        if self._account is None:
            self._account = turns.account(upstream=self.upstream)
        turns.charge(self._account, seconds)
        limit = turns.limit()
        if seconds > limit:
            self._most = max(_LEAST_READ, min(self._most, int(self._got * limit / seconds)))
            self._size = min(self._size, self._most)
        elif seconds < limit / 4 and self._most < _MIDDLE_READ and self._got >= self._most >> 1:
            self._most <<= 1

    async def _turn(self, account: Account) -> bool:
        # Whether it had to be waited for. Closing ends the wait.
        turns = self._poller.turns
        if turns.forgiven(account):
            self._account = None
            self._most = max(self._most, _SMALL_READ)
        elif turns.crowded():
            await turns.wait(account)
            return True
        return False

    async def _end_row(self) -> None:
        # Many bytes, none of which was waited for. They may be cheap for us, and a great many for the kernel.
        self._streak = 0
        self._begun = 0.0  # it is part of the row
        seconds = min(self._clock() - self._row_begun, SLICE)
        account = self._account
        if account is None:
            if seconds < SLICE:
                self._most = _LARGE_READ
            account = self._account = self._turns.account(upstream=self.upstream)
        cost = account.cost
        self._turns.charge(account, seconds)
        account.cost = max(cost, seconds)  # a row is not a turn: the next one takes what turns took
        await self.turn()

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
            if not data and self._reset:
                raise trio.BrokenResourceError("read: Connection reset by peer")
            self.pending = self.hung_up
        return data

    def fileno(self) -> int:
        """Return the socket's file descriptor. Raises trio.ClosedResourceError."""
        if self.sock is None:
            raise trio.ClosedResourceError("socket was closed")
        return self.sock.fileno()

    async def wait_readable(self) -> None:
        """Wait until ``pending``; for those who read by other means than ``read``."""
        while not self.pending or self.sock is None:
            if self.sock is None:
                await self.resumed()
                continue
            if self._reader is not None:
                raise trio.BusyResourceError("another task reads this socket")
            self._reader = trio.lowlevel.current_task()
            await self._unread.parked()

    def _abort_read(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._reader = None
        return trio.lowlevel.Abort.SUCCEEDED

    def write_now(self, data: bytes | memoryview) -> int:
        """See ByteStream."""
        sock = self.sock
        if sock is None:
            raise trio.ClosedResourceError("socket was closed")
        try:
            sent = sock.send(data)
        except BlockingIOError:
            self.writable = False
            return 0
        except OSError as exc:
            self.write_failed(exc)
            raise trio.BrokenResourceError(f"write: {exc.strerror}") from exc
        if sent != len(data):
            self.writable = False
        return sent

    def write_failed(self, error: OSError) -> None:
        """Remember how a write failed: a reset, which the kernel tells once.

        It tells whoever asks first. A read after it has what came before the reset, and then what looks like the end
        that the peer never said.
        """
        if error.errno == errno.ECONNRESET:
            self._reset = True

    async def wait_writable(self) -> None:
        """See ByteStream. Wait for the edge after a short write; it may have come before anybody waits."""
        if self.sock is None:
            await self.resumed()
        if self.writable:
            self.writable = False
            await trio.lowlevel.checkpoint()
        else:
            if self._writer is not None:
                raise trio.BusyResourceError("another task writes to this socket")
            self._writer = trio.lowlevel.current_task()
            await self._unwritten.parked()
        if self.sock is None:
            await self.resumed()

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

    # ---- moving to another process

    @property
    def awaited(self) -> bool:
        """See MovableStream."""
        return self._reader is not None

    def suspend(self) -> socket.socket:
        """See MovableStream. Before the descriptor is sent: an epoll follows the open file, also after our close."""
        sock = self.sock
        if sock is None:
            raise trio.ClosedResourceError("socket was closed")
        self._poller.forget(self, sock.fileno())
        self._suspended, self.sock = sock, None
        return sock

    @property
    def amid(self) -> bool:
        """See MovableStream: whoever waits has nothing in hand."""
        return False

    def export(self) -> bytes:
        """See MovableStream: the kernel has it all."""
        return b""

    def resume(self) -> None:
        """See MovableStream."""
        sock, self._suspended = self._suspended, None
        if sock is not None:
            self.sock = sock
            self._poller.register(self, sock.fileno())
            self._wake_still()

    @property
    def suspended(self) -> bool:
        """It stands still: see ``suspend``."""
        return self._suspended is not None

    async def resumed(self) -> None:
        """Wait while it is suspended; for who was about to read or write. Raises Moved, trio.ClosedResourceError."""
        while self._suspended is not None:
            if self._still is None:
                self._still = trio.Event()
            await self._still.wait()
        if self.sock is None:
            raise (
                Moved("another process has the connection")
                if self._left
                else trio.ClosedResourceError("socket was closed")
            )

    def _wake_still(self) -> None:
        if self._still is not None:
            self._still.set()
            self._still = None

    def beside(self, sock: socket.socket) -> PolledSocket:
        """See MovableStream."""
        return self._poller.add(sock, self.peer, self.local)

    def leave(self) -> None:
        """See MovableStream."""
        if self._suspended is None:
            raise RuntimeError("only what was suspended can leave")
        self._left = True
        self._end(Moved("another process has the connection"))

    def close(self) -> None:
        """See ByteStream."""
        if self.sock is not None or self._suspended is not None:
            self._end(trio.ClosedResourceError("socket was closed"))

    def _end(self, reason: trio.ClosedResourceError) -> None:
        sock, self.sock = self.sock, None
        if sock is not None:
            self._poller.forget(self, sock.fileno())
            sock.close()
        if self._suspended is not None:
            self._suspended.close()
            self._suspended = None
        self._watch = None
        self._unread = self._unwritten = _OVER
        for task in (self._reader, self._writer):
            if task is not None:
                trio.lowlevel.reschedule(task, Error(reason))
        self._reader = self._writer = None
        self._wake_still()
        if self._account is not None:
            self._poller.turns.release(self._account)

    def abort(self) -> None:
        """See ByteStream: SO_LINGER with a time of 0 makes close send RST."""
        self.resume()
        if self.sock is not None and self.sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()
