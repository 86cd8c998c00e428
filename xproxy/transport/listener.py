"""Listening sockets: TCP and Unix, opened once and never closed by a reload."""

from __future__ import annotations

import ctypes
import errno
import logging
import socket
import struct
import sys
from collections.abc import Callable
from typing import Final

import trio

from xproxy.model.address import Address
from xproxy.model.errors import XproxyError
from xproxy.supervisor.sockets import CannotListen, Place, open_socket

_logger = logging.getLogger(__name__)

_OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_ACCEPTS_IN_A_ROW: Final = 64
"""Connections accepted in one tick before others may run."""
_PAUSE: Final = 0.1
"""Seconds without accepting when the process has no file descriptor left; the kernel's backlog keeps the rest."""


_SO_ATTACH_FILTER: Final = 26
"""socket(7), Linux; the standard library has no name for it."""
_NO_NEW_HANDSHAKES: Final = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # A := the flags byte of the TCP header
        (0x54, 0, 0, 0x12),  # A &= SYN | ACK
        (0x15, 0, 1, 0x02),  # a SYN alone …
        (0x06, 0, 0, 0),  # … is dropped: it is sent again in a second, to a closed port
        (0x06, 0, 0, 0xFFFF),  # anything else passes
    )
)
"""A program of the classic packet filter (bpf(4)): new connections do not begin, those that have begun go on."""


class ListenError(XproxyError):
    """An address cannot be listened on; says which and why."""


def address_of(sock: socket.socket, *, peer: bool = False) -> Address:
    """Return a socket's own or its peer's address."""
    try:
        name = sock.getpeername() if peer else sock.getsockname()
    except OSError:
        return Address("", 0)  # the peer is gone already; reading will say so
    if sock.family == socket.AF_UNIX:
        return Address("", 0, name if isinstance(name, str) and name else "unnamed")
    return Address(name[0], name[1])


def open_listener(address: Address, *, backlog: int, reuse_port: bool = False) -> socket.socket:
    """Open a non-blocking listening socket. Raises ListenError.

    A Unix path that nobody listens on any more is taken over.
    """
    place = Place(address.host, address.port, address.path)
    try:
        return open_socket(place, backlog=backlog, reuse_port=reuse_port)
    except CannotListen as exc:
        raise ListenError(str(exc)) from exc


async def accept_forever(
    sock: socket.socket, name: str, take: Callable[[socket.socket], None]
) -> None:
    """Hand every new connection, non-blocking, to ``take``. Survives running out of file descriptors.

    Returns when the socket is closed; cancel it to stop accepting and keep the socket.
    """
    paused = False
    while sock.fileno() >= 0:
        try:
            await trio.lowlevel.wait_readable(sock)
        except trio.ClosedResourceError:
            return
        for _ in range(_ACCEPTS_IN_A_ROW):
            try:
                connection, _ = sock.accept()
            except BlockingIOError:
                break
            except OSError as exc:
                if exc.errno in _OUT_OF_RESOURCES:
                    if not paused:
                        _logger.error(
                            "listener %s: cannot accept (%s); trying on every %.0f ms",
                            name,
                            exc.strerror,
                            _PAUSE * 1e3,
                        )
                    paused = True
                    await trio.sleep(_PAUSE)
                    break
                if exc.errno == errno.EBADF:
                    return
                continue  # the connection was gone before we took it
            if paused:
                paused = False
                _logger.warning("listener %s: accepting again", name)
            _prepare(connection)
            take(connection)


def accept_waiting(sock: socket.socket, take: Callable[[socket.socket], None]) -> None:
    """Hand on what waits in the queue of a socket about to be closed, which would reset it. Never blocks.

    A handshake that ended between the last accept and the close would be reset all the same; where the kernel can, it
    begins none any more.
    """
    _begin_none(sock)
    while True:
        try:
            connection, _ = sock.accept()
        except OSError as exc:
            if exc.errno == errno.ECONNABORTED:
                continue  # the connection was gone before we took it
            return  # the queue is empty; or nothing can be done for what is in it
        _prepare(connection)
        take(connection)


def _begin_none(sock: socket.socket) -> None:
    if sys.platform != "linux" or sock.family == socket.AF_UNIX:
        return
    program = ctypes.create_string_buffer(_NO_NEW_HANDSHAKES, len(_NO_NEW_HANDSHAKES))
    value = struct.pack("@HP", len(_NO_NEW_HANDSHAKES) // 8, ctypes.addressof(program))
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, value)
    except OSError as exc:  # a sandbox may forbid it: the moment between accept and close stays, some microseconds
        _logger.debug("cannot stop new handshakes: %s", exc)


def _prepare(connection: socket.socket) -> None:
    connection.setblocking(False)
    if connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
