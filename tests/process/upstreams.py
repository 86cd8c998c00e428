"""Upstreams of the process tests, each a process of its own: ``python upstreams.py KIND [ARGUMENT]``.

Prints its port when it listens. Small and slow where that does not matter: a thread a connection.
"""

from __future__ import annotations

import hashlib
import http.server
import os
import re
import selectors
import socket
import socketserver
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from xproxy.cli.demo.upstreams import native_success
from xproxy.model.frames import Head, Reply
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.registry import default_registry

_PIECE: Final = bytes(range(256)) * 256


class Web(http.server.BaseHTTPRequestHandler):
    """HTTP/1.1 with everything that a proxy can get wrong.

    ``GET /size/N`` gives N bytes, ``GET /chunked/N`` the same in chunks with their SHA-256 as a trailer. Any request
    with a body gets what came: how many bytes, their SHA-256, the trailers, and whether 100-continue was asked for.
    """

    protocol_version = "HTTP/1.1"
    wbufsize = 65536
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the standard library's name
        """Say nothing."""

    def handle_expect_100(self) -> bool:
        """Send the 100 before anything else is written."""
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def do_GET(self) -> None:
        """See the class."""
        found = re.fullmatch(r"/(size|chunked)/(\d+)", self.path)
        if found is None:
            self._answer(f"{os.getpid()} {self.path}\n".encode())
        elif found[1] == "size":
            size = int(found[2])
            self.send_response(200)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            for piece in pieces(size):
                self.wfile.write(piece)
        else:
            self._chunked(int(found[2]))

    do_HEAD = do_GET

    def _chunked(self, size: int) -> None:
        digest = hashlib.sha256()
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Trailer", "X-Digest")
        self.end_headers()
        for piece in pieces(size):
            digest.update(piece)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(f"0\r\nX-Digest: {digest.hexdigest()}\r\n\r\n".encode())

    def do_POST(self) -> None:
        """See the class."""
        digest, size, trailers = hashlib.sha256(), 0, b""
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while count := int(self.rfile.readline().partition(b";")[0], 16):
                left = count
                while left:
                    piece = self.rfile.read(min(left, 65536))
                    digest.update(piece)
                    left -= len(piece)
                size += count
                self.rfile.readline()
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                trailers += line
        else:
            left = size = int(self.headers.get("Content-Length", "0"))
            while left:
                piece = self.rfile.read(min(left, 65536))
                digest.update(piece)
                left -= len(piece)
        asked = self.headers.get("Expect", "-")
        told = f"{size} {digest.hexdigest()} {asked} {trailers.strip().decode('latin-1')}\n"
        self._answer(told.encode())

    do_PUT = do_POST

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def pieces(size: int) -> Iterator[bytes]:
    """Give ``size`` bytes, the same for everybody, in pieces."""
    while size:
        piece = _PIECE[:size]
        size -= len(piece)
        yield piece


class Log(socketserver.BaseRequestHandler):
    """Answers requests for ``/good`` with 204, and appends every byte that comes to a file."""

    def handle(self) -> None:
        """See the class."""
        with Path(sys.argv[2]).open("ab", buffering=0) as log:
            while data := self.request.recv(65536):
                log.write(data)
                if b"/good" in data:
                    self.request.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")


class Echo(socketserver.BaseRequestHandler):
    """Gives back every byte."""

    def handle(self) -> None:
        """See the class."""
        while data := self.request.recv(65536):
            self.request.sendall(data)


class Sink(socketserver.BaseRequestHandler):
    """Takes everything, and says nothing."""

    def handle(self) -> None:
        """See the class."""
        while self.request.recv(1 << 20):
            pass


class Calls(socketserver.BaseRequestHandler):
    """Answers the calls of a codec (the argument), each with the body that came."""

    def handle(self) -> None:
        """See the class."""
        plugin = default_registry().codec(sys.argv[2])
        codec = plugin.open(Role.SERVER, DEFAULT_LIMITS)
        success = native_success(plugin)
        while data := self.request.recv(65536):
            for frame in codec.receive(data):
                if isinstance(frame, Reply):
                    self.request.sendall(frame.data)
                elif isinstance(frame, Head):
                    head = ResponseHead(status=Status.OK, native_status=success)
                    self.request.sendall(codec.send(Head(frame.stream_id, head, frame.data, True)))


class Mail(socketserver.StreamRequestHandler):
    """Speaks first, as SMTP does, and answers every line."""

    def handle(self) -> None:
        """See the class."""
        self.wfile.write(b"220 mail.test ready\r\n")
        for line in self.rfile:
            bye = line.strip().upper() == b"QUIT"
            self.wfile.write(b"221 bye\r\n" if bye else b"250 fine\r\n")
            if bye:
                return


class Server(socketserver.ThreadingTCPServer):
    """A thread a connection; a client that goes away is nobody's fault."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 1024

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of broken connections."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # typeshed's own union


KINDS: Final[dict[str, type[socketserver.BaseRequestHandler]]] = {
    "web": Web,
    "log": Log,
    "echo": Echo,
    "sink": Sink,
    "mail": Mail,
    "calls": Calls,
}


def main() -> None:
    """Serve until killed."""
    with Server(("127.0.0.1", 0), KINDS[sys.argv[1]]) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


@contextmanager
def upstream(kind: str, *arguments: str) -> Iterator[int]:
    """Run one; gives its port."""
    command = [sys.executable, __file__, kind, *arguments]
    with running(command, lambda line: int(line)) as (port, _):
        yield port


@contextmanager
def running(
    command: list[str], read: Callable[[str], int], environment: dict[str, str] | None = None
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run a program that prints where it listens; leaving kills it."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    try:
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if not selector.select(60.0):
                raise AssertionError(f"does not listen: {command}")
        yield read(process.stdout.readline().decode()), process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def connected(port: int) -> bool:
    """Say whether somebody listens."""
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
