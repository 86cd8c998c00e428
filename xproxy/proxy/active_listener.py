"""A listener at work: its socket, its connections, and the plan of the snapshot in force."""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeAlias

import trio

from xproxy.config.schema import ListenerConfig
from xproxy.connection.service import DownstreamStats
from xproxy.model.address import Address
from xproxy.proxy.connection import Connection, FilterChains
from xproxy.proxy.opening_moment import OpeningMoment
from xproxy.proxy.serve_connection import open_connection
from xproxy.proxy.snapshot import ListenerPlan
from xproxy.transport.descriptors import Descriptors
from xproxy.transport.listener import accept_forever, accept_waiting, address_of
from xproxy.transport.poller import Poller
from xproxy.transport.timers import Timers
from xproxy.transport.transparent import destination_of, take_any

_logger = logging.getLogger(__name__)


Drive: TypeAlias = Callable[[Connection], Awaitable[Awaitable[None] | None]]
"""Returns what serves a connection to its end; None: nothing does."""


class ActiveListener:
    """Accepts and serves until stopped. A reload replaces its plan and touches no connection."""

    def __init__(
        self,
        sock: socket.socket,
        plan: ListenerPlan,
        poller: Poller,
        timers: Timers,
        ids: Iterator[int],
        descriptors: Descriptors | None = None,
        stats: DownstreamStats | None = None,
        also: Sequence[socket.socket] = (),
        release: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        """``descriptors`` None: its clients may have them all.

        ``stats``: of the listener of this name whose place it takes, which count on. ``also``: sockets at the same
        place whose queues it serves too. ``release`` is called when it accepts no more, and says whether what waits
        in its queue is its own to serve.
        """
        self.socket = sock
        self.address: Address = address_of(sock)
        """Where it really listens: the port is never 0."""
        self._also = tuple(also)
        self._release = release
        self.plan = plan
        self.stats = stats or DownstreamStats()
        self.chains = FilterChains(plan, self.stats)
        self.connections: dict[int, Connection] = {}
        self._poller = poller
        self._timers = timers
        self._ids = ids
        self._descriptors = descriptors
        self._nursery: trio.Nursery | None = None
        self._accepting = trio.CancelScope()
        self._stopped = False
        self._resumed: trio.Event | None = None
        """Set when it accepts again; None while it does."""
        self.handed_on = False
        """Another listener has this socket too, and takes what waits in its queue."""
        self._intercepts()
        self.ended = trio.Event()
        """Set when it has stopped and its last connection has ended."""

    @property
    def config(self) -> ListenerConfig:
        return self.plan.config

    def use(self, plan: ListenerPlan) -> None:
        """Serve new streams, also those of connections that are open, by ``plan``."""
        before = self.config.transparent
        self.plan = plan
        self.chains.use(plan)
        if not before:
            self._intercepts()

    def _intercepts(self) -> None:
        if self.config.transparent:
            try:
                for sock in (self.socket, *self._also):
                    take_any(sock)
            except OSError as exc:
                _logger.warning(
                    "listener %s: takes redirected connections (REDIRECT), but not by TPROXY: %s (CAP_NET_ADMIN)",
                    self.config.name,
                    exc.strerror,
                )

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Accept and serve. Returns after ``stop``, when the last connection has ended."""
        try:
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                await self._accept()
                if self._release is not None and not self.handed_on:
                    self.handed_on = not await self._release()
                # Whoever has connected is served; whoever connects from now on is refused, and waits for nobody.
                for sock in (self.socket, *self._also):
                    if not self.handed_on:
                        accept_waiting(sock, self._take)
                    sock.close()
        finally:
            self._nursery = None
            self.close()
            self.ended.set()

    def copies(self) -> Sequence[socket.socket]:
        """Return copies of its sockets, for a listener that takes its place."""
        return [sock.dup() for sock in (self.socket, *self._also)]

    def close(self) -> None:
        """Close its sockets. Idempotent."""
        for sock in (self.socket, *self._also):
            sock.close()

    async def _accept(self) -> None:
        while not self._stopped:
            with trio.CancelScope() as self._accepting:
                if self._resumed is not None:
                    await self._resumed.wait()
                if self._also:
                    async with trio.open_nursery() as nursery:
                        for sock in self._also:
                            nursery.start_soon(accept_forever, sock, self.config.name, self._take)
                        await accept_forever(self.socket, self.config.name, self._take)
                else:
                    await accept_forever(self.socket, self.config.name, self._take)
                return

    def pause(self) -> None:
        """Accept nobody until ``resume``; the socket stays open, and who connects waits in its queue. Idempotent."""
        if self._resumed is None:
            self._resumed = trio.Event()
            self._accepting.cancel()

    def resume(self) -> None:
        """Accept again, also those who have waited. Idempotent."""
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.set()

    def _take(self, sock: socket.socket) -> None:
        self.stats.downstream_cx_total += 1
        if len(self.connections) >= self.config.limits.max_connections:
            self._refuse(sock)
            return
        connection = self._watch(sock, None)
        if connection is not None:
            self.begin(connection, self._serve)

    def adopt(self, sock: socket.socket, id_: int, drive: Drive) -> bool:
        """Go on with a connection that was accepted elsewhere, under its id; ``drive`` says what serves it.

        It counts as active here, and was counted as opened there. Returns False where it cannot be watched, there is
        no descriptor left for it or the listener has stopped: then the socket is closed.
        """
        connection = self.admit(sock, id_)
        if connection is not None:
            self.begin(connection, drive)
        return connection is not None

    def admit(self, sock: socket.socket, id_: int) -> Connection | None:
        """The first half of ``adopt``: nothing is read or written, and nothing counted, until it begins.

        Whoever gets it calls ``begin``, or closes its stream.
        """
        if self._nursery is None or self._stopped:
            sock.close()
            return None
        return self._watch(sock, id_)

    def opening(self, moment: OpeningMoment) -> Drive:
        """Return what serves, by the plan in force, a connection whose opening was frozen elsewhere.

        For ``adopt``. ``moment`` was checked.
        """
        return lambda connection: open_connection(
            connection, self.plan, self.chains, self._timers, moment
        )

    def _refuse(self, sock: socket.socket) -> None:
        self.stats.downstream_cx_overflow += 1
        sock.close()

    def _watch(self, sock: socket.socket, id_: int | None) -> Connection | None:
        if self._descriptors is not None and not self._descriptors.take(sock.fileno()):
            self._refuse(sock)
            return None
        local = address_of(sock)
        destination = destination_of(sock, local, self.address) if self.config.transparent else None
        try:
            stream = self._poller.add(sock, address_of(sock, peer=True), destination or local)
        except OSError as exc:
            # No memory, or the user's bound on watched descriptors (epoll_ctl(2)): this one cannot be served.
            _logger.error("listener %s: cannot watch a connection: %s", self.config.name, exc)
            self._refuse(sock)
            return None
        number = next(self._ids) if id_ is None else id_
        if self._descriptors is None:
            return Connection(number, stream, destination)
        share = self._poller.held.share(None, self.config.limits.max_connection_bytes)
        return Connection(number, stream, destination, share)

    def begin(self, connection: Connection, drive: Drive) -> None:
        """Serve a connection that was admitted."""
        if self._nursery is None:
            connection.stream.close()  # the process has ended meanwhile
            return
        self.connections[connection.id] = connection
        self.stats.downstream_cx_active += 1
        self._nursery.start_soon(self._run, connection, drive)

    def _serve(self, connection: Connection) -> Awaitable[Awaitable[None] | None]:
        return open_connection(connection, self.plan, self.chains, self._timers)

    async def _run(self, connection: Connection, drive: Drive) -> None:
        try:
            driving = await drive(connection)
            if driving is not None:
                await driving
        except Exception:
            # A bug of a driver or codec ends its own connection, not the listener. Streams have their own guard.
            _logger.exception("listener %s: connection %d failed", self.config.name, connection.id)
        finally:
            connection.stream.close()
            del self.connections[connection.id]
            self.stats.downstream_cx_active -= 1

    def stop(self) -> None:
        """Accept no more, let connections finish what is in flight. Idempotent."""
        self.chains.drain()
        self._stopped = True
        self._accepting.cancel()
        for connection in list(self.connections.values()):
            connection.drain(self.config.timeouts.linger)

    def cut(self, why: str = "at the drain deadline (timeouts.drain)") -> None:
        """End what a drain has not ended by its deadline; says how much that was."""
        if self._nursery is not None and self.connections:
            _logger.warning(
                "listener %s: %d connections cut off %s",
                self.config.name,
                len(self.connections),
                why,
            )
            self._nursery.cancel_scope.cancel()


class ConnectionIds:
    """The ids of a process's connections, from the first that nobody has had."""

    __slots__ = ("last",)

    def __init__(self, first: int = 1) -> None:
        self.last = first - 1
        """The last one that was given."""

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        self.last += 1
        return self.last

    def after(self, last: int) -> None:
        """Give none any more that is not above ``last``."""
        self.last = max(self.last, last)
