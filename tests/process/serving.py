"""Servers for tests: each connection is served by a function, in a thread."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

from tests.process.product import PATIENCE


@contextlib.contextmanager
def serving(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve connections, each in a thread, and give the port."""
    threads: list[threading.Thread] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.settimeout(PATIENCE)
                thread = threading.Thread(target=one, args=(connection,))
                threads.append(thread)
                thread.start()

    def one(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            serve(connection)

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in (accepting, *threads):
            thread.join(PATIENCE)


def head(connection: socket.socket) -> bytes:
    got = b""
    while not got.endswith(b"\r\n\r\n"):
        data = connection.recv(1)
        assert data, f"the connection ended after {got!r}"
        got += data
    return got


def echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)
