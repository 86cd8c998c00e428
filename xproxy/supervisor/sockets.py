"""Opening listening sockets: TCP and Unix, as the supervisor and a proxy without one do it alike."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from typing import NamedTuple


class CannotListen(Exception):
    """An address cannot be listened on; says which and why."""


class Place(NamedTuple):
    """Where a socket listens."""

    host: str
    """IP address or name; empty for a Unix socket."""
    port: int
    path: str
    """Of a Unix socket; empty for TCP."""

    @property
    def is_unix(self) -> bool:
        return bool(self.path)

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def place_of(sock: socket.socket) -> Place:
    """Return where a socket really listens: the port is never 0."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return Place("", 0, name if isinstance(name, str) and name else "unnamed")
    return Place(name[0], name[1], "")


def open_socket(place: Place, *, backlog: int, reuse_port: bool = False) -> socket.socket:
    """Open a non-blocking listening socket. Raises CannotListen.

    A Unix path that nobody listens on any more is taken over.
    """
    where: str | tuple[str, int]
    if place.is_unix:
        family, where = socket.AF_UNIX, place.path
    else:
        family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
        where = (place.host, place.port)
    try:
        if place.is_unix:
            _remove_stale(place.path)
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as exc:
        raise CannotListen(f"cannot listen on {place}: {exc.strerror or exc}") from exc
    try:
        if not place.is_unix:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                share_port(sock)
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(where)
        sock.listen(backlog)
    except OSError as exc:
        sock.close()
        raise CannotListen(f"cannot listen on {place}: {exc.strerror or exc}") from exc
    return sock


def share_port(sock: socket.socket) -> None:
    """Let others of the same user listen on its port, too; also where it listens already. Raises OSError."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def remove(path: str) -> None:
    """Remove the file of a Unix socket, which outlives it."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def _remove_stale(path: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise CannotListen(f"cannot listen on unix:{path}: the file is there and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            pass
        except BlockingIOError:
            raise CannotListen(
                f"cannot listen on unix:{path}: another process listens there"
            ) from None
        else:
            raise CannotListen(f"cannot listen on unix:{path}: another process listens there")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
