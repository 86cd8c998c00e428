"""The control socket: who may ask a running proxy to be upgraded, and how it is told what came of it."""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from xproxy.supervisor.link import Link
from xproxy.supervisor.loop import Loop
from xproxy.supervisor.messages import close_all

MOST_CLIENTS: Final = 16
"""At a time; one more is turned away."""
_CREDENTIALS: Final = struct.Struct("3i")
"""struct ucred: pid, uid, gid."""


class Client:
    """Somebody who has connected."""

    __slots__ = ("link",)

    def __init__(self) -> None:
        self.link: Link | None = None

    def say(self, message: Mapping[str, object]) -> None:
        """Tell it something; nothing if it has gone."""
        if self.link is not None:
            self.link.say(message)


Asked: TypeAlias = Callable[[Client, dict[str, object]], object]


class Control:
    """A listening Unix socket of our user's alone."""

    __slots__ = ("_asked", "_clients", "_loop", "_socket", "path")

    def __init__(self, loop: Loop, path: str, asked: Asked) -> None:
        """``asked`` is called for each message. Raises OSError."""
        self.path = path
        self._loop = loop
        self._asked = asked
        self._clients: set[Client] = set()
        self._socket = _listen(path)
        loop.watch(self._socket, self._accept)

    def close(self) -> None:
        """Hang up on everybody, and remove the path."""
        self._loop.forget(self._socket)
        self._socket.close()
        try:
            os.unlink(self.path)
        except OSError:
            pass
        for client in list(self._clients):
            self._gone(client)

    def _accept(self) -> None:
        try:
            sock, _ = self._socket.accept()
        except OSError:
            return  # it hung up, or we have no descriptor left: it may ask again
        if len(self._clients) >= MOST_CLIENTS or not is_ours(sock):
            sock.close()
            return
        sock.setblocking(False)
        client = Client()
        self._clients.add(client)

        def heard(message: dict[str, object], found: list[int]) -> None:
            close_all(found)
            self._asked(client, message)

        client.link = Link(self._loop, sock, heard, lambda _: self._gone(client))

    def _gone(self, client: Client) -> None:
        self._clients.discard(client)
        if client.link is not None:
            client.link.close()
            client.link = None


def is_ours(sock: socket.socket) -> bool:
    """Say whether the other end is a process of our user, or of root, who may do anything anyway."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(raw)
    return user in (os.geteuid(), 0)


def _listen(path: str) -> socket.socket:
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
