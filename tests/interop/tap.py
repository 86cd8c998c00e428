"""A relay that keeps what is said, between a real client, the proxy and a real server."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import attrs

from tests.process.product import PATIENCE

_PIECE = 65536


@attrs.define(eq=False)
class Said:
    """What one side of a connection said."""

    data: bytearray = attrs.field(factory=bytearray)
    pieces: int = 0
    """Reads that it took."""


@attrs.define(eq=False)
class Tap:
    """Listens, and carries what comes to a port."""

    port: int
    said: list[Said] = attrs.field(factory=list)
    """By clients, a connection each, in their order."""
    answered: list[Said] = attrs.field(factory=list)
    """By the server."""


@contextmanager
def tap(port: int, *, introduced: bool = False) -> Iterator[Tap]:
    """Run one; leaving ends its connections.

    ``introduced``: each begins with a PROXY header of version 1, which the server is not told.
    """
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        found = Tap(listener.getsockname()[1])
        threads: list[threading.Thread] = []
        opened: list[socket.socket] = [listener]

        def start(work: threading.Thread) -> None:
            threads.append(work)
            work.start()

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    server = socket.create_connection(("127.0.0.1", port), PATIENCE)
                    server.settimeout(None)
                    for one in (client, server):
                        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        opened.append(sockets.enter_context(one))
                    said, answered = Said(), Said()
                    found.said.append(said)
                    found.answered.append(answered)
                    there = (client, server, said, introduced)
                    start(threading.Thread(target=_carry, args=there))
                    start(threading.Thread(target=_carry, args=(server, client, answered, False)))

        start(threading.Thread(target=accept))
        try:
            yield found
        finally:
            # Twice: a connection may come while the first ones are ended.
            for _ in range(2):
                for one in opened:
                    with contextlib.suppress(OSError):
                        one.shutdown(socket.SHUT_RDWR)
                threads[0].join(PATIENCE)
            for thread in threads:
                thread.join(PATIENCE)


def _carry(source: socket.socket, sink: socket.socket, said: Said, introduced: bool) -> None:
    with contextlib.suppress(OSError):
        while introduced:
            introduced = source.recv(1) != b"\n"
        while data := source.recv(_PIECE):
            said.data += data
            said.pieces += 1
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
        return
    # Either side broke: so does the other.
    for one in (source, sink):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
