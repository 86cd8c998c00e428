"""The control socket: who may ask a running proxy to be upgraded, and how it is told what came of it."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, TypeAlias

from xproxy.supervisor.link import Link
from xproxy.supervisor.log import Log
from xproxy.supervisor.loop import Loop, Timer
from xproxy.supervisor.messages import close_all

MOST_CLIENTS: Final = 16
"""At a time; one more is turned away."""
SILENCE: Final = 5.0
"""Seconds until one that is owed no answer, and asks nothing, is hung up on: it has the place of somebody else."""
ACCEPT_AGAIN: Final = 1.0
"""Seconds until somebody is accepted again, when no descriptor or no memory was left for it."""
_SCARCE: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What accept(2) says then: who waits goes on to wait, and the socket to be readable."""
_ANSWERS: Final = frozenset({"done", "status"})
"""Kinds of messages that answer what was asked; others say how it goes."""
_CREDENTIALS: Final = struct.Struct("3i")
"""struct ucred: pid, uid, gid."""


class Client:
    """Somebody who has connected."""

    __slots__ = ("_hang_up", "_loop", "_owed", "_silence", "gone", "link")

    def __init__(self, loop: Loop, hang_up: Callable[[Client], object]) -> None:
        """``hang_up`` is called with it when it has been silent for ``SILENCE``."""
        self.link: Link | None = None
        self.gone: Callable[[], object] | None = None
        """Called once when it has gone, or was hung up on; not when the control socket is closed."""
        self._loop = loop
        self._hang_up = hang_up
        self._owed = 0
        # Answers.
        self._silence: Timer | None = None
        self._listen()

    def say(self, message: Mapping[str, object]) -> None:
        """Tell it something; nothing if it has gone."""
        if self.link is None:
            return
        if message["kind"] in _ANSWERS:
            self._owed -= 1
            if not self._owed:
                self._listen()
        self.link.say(message)

    def asks(self) -> None:
        """It has asked: what comes of that may take as long as an upgrade does."""
        self._owed += 1
        self.close()

    def close(self) -> None:
        """Do not call it silent any more. Idempotent."""
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _listen(self) -> None:
        self._silence = self._loop.after(SILENCE, lambda: self._hang_up(self))


Asked: TypeAlias = Callable[[Client, dict[str, object]], object]


class Control:
    """A listening Unix socket of our user's alone."""

    __slots__ = ("_again", "_asked", "_clients", "_log", "_loop", "_socket", "path")

    def __init__(
        self,
        loop: Loop,
        path: str,
        asked: Asked,
        log: Log,
        sock: socket.socket | None = None,
    ) -> None:
        """``asked`` is called for each message. ``sock``: it listens at ``path`` already. Raises OSError."""
        self.path = path
        self._loop = loop
        self._asked = asked
        self._log = log
        self._clients: set[Client] = set()
        self._again: Timer | None = None
        # Set from when nobody could be accepted until somebody is.
        self._socket = sock or listen(path)
        loop.watch(self._socket, self._accept)

    @property
    def descriptor(self) -> int:
        """Of the socket that listens."""
        return self._socket.fileno()

    @property
    def clients(self) -> Collection[Client]:
        """Who is connected."""
        return self._clients

    def pause(self) -> None:
        """Accept nobody until ``go_on``; whoever has another copy of the socket may."""
        if self._again is not None:
            self._again.cancel()
        self._loop.forget(self._socket)

    def go_on(self) -> None:
        """Accept again. Idempotent."""
        self._loop.watch(self._socket, self._accept)

    def close(self, *, leave: bool = False) -> None:
        """Hang up on everybody, and remove the path; ``leave`` it where somebody else listens there now."""
        self.pause()
        self._socket.close()
        try:
            if not leave:
                os.unlink(self.path)
        except OSError:
            pass
        for client in list(self._clients):
            client.gone = None
            self._gone(client)

    def _accept(self) -> None:
        try:
            sock, _ = self._socket.accept()
        except OSError as exc:
            if exc.errno in _SCARCE:
                self._pause(exc)
            return  # or it has hung up
        self._again = None
        if len(self._clients) >= MOST_CLIENTS or not is_ours(sock):
            sock.close()
            return
        self.take(sock)

    def take(self, sock: socket.socket, waiting: Iterable[tuple[bytes, list[int]]] = ()) -> Client:
        """Hear one who has connected. ``waiting``: see Link."""
        sock.setblocking(False)
        client = Client(self._loop, self._gone)
        self._clients.add(client)

        def heard(message: dict[str, object], found: list[int]) -> None:
            close_all(found)
            client.asks()
            self._asked(client, message)

        client.link = Link(self._loop, sock, heard, lambda _: self._gone(client), waiting)
        return client

    def _pause(self, exc: OSError) -> None:
        # Who waits stays in the queue: looked at without a pause, it were a loop that never rests.
        if self._again is None:
            self._log.warning(f"nobody can be accepted at {self.path}: {exc.strerror}")
        self._loop.forget(self._socket)
        self._again = self._loop.after(
            ACCEPT_AGAIN, lambda: self._loop.watch(self._socket, self._accept)
        )

    def _gone(self, client: Client) -> None:
        client.close()
        self._clients.discard(client)
        if client.link is not None:
            client.link.close()
            client.link = None
        gone, client.gone = client.gone, None
        if gone is not None:
            gone()


def is_ours(sock: socket.socket) -> bool:
    """Say whether the other end is a process of our user, or of root, who may do anything anyway."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(raw)
    return user in (os.geteuid(), 0)


def listen(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        _remove_stale(path)
        before = os.umask(0o177)
        try:
            sock.bind(path)
        finally:
            os.umask(before)
        sock.setblocking(False)
        sock.listen(MOST_CLIENTS)
    except OSError:
        sock.close()
        raise
    return sock


def _remove_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return  # bind says that something is there
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:
            return  # somebody is there, or we may not look: bind says so
