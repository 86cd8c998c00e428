"""Upstreams that send back what comes, one process each: ``python -m bench.takeover.upstream KIND PORT [DELAY_MS]``.

One epoll and no libraries, so that they cost little beside the proxy that is looked at.
"""

from __future__ import annotations

import base64
import hashlib
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

import attrs

from bench.lab import raise_file_limit

_CHUNK_BYTES = 1 << 16
_BACKLOG = 4096


class Serving(Protocol):
    """One connection."""

    def receive(self, data: bytes) -> bytes:
        """Take what came; return what is sent back. Raises ValueError where there is no going on."""


@attrs.define(eq=False)
class EchoServing:
    """Bytes."""

    def receive(self, data: bytes) -> bytes:
        return data


_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_PING, _PONG = 9, 10


@attrs.define(eq=False)
class WebSocketServing:
    """WebSocket messages (RFC 6455 §5.2), after the handshake."""

    _got: bytearray = attrs.field(factory=bytearray)
    _open: bool = False

    def receive(self, data: bytes) -> bytes:
        got, out = self._got, bytearray()
        got += data
        if not self._open:
            end = got.find(b"\r\n\r\n") + 4
            if end < 4:
                return b""
            out += self._handshake(bytes(got[:end]))
            del got[:end]
            self._open = True
        while (end := self._frame_end(got)) and len(got) >= end:
            out += self._answer(bytes(got[:end]))
            del got[:end]
        return bytes(out)

    @staticmethod
    def _handshake(head: bytes) -> bytes:
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"sec-websocket-key":
                digest = hashlib.sha1(value.strip() + _GUID, usedforsecurity=False).digest()
                return (
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                    b"Connection: Upgrade\r\nSec-WebSocket-Accept: "
                    + base64.b64encode(digest)
                    + b"\r\n\r\n"
                )
        raise ValueError("no key in the handshake")

    @staticmethod
    def _frame_end(got: bytearray) -> int:
        if len(got) < 2:
            return 0
        size, start = got[1] & 0x7F, 6
        if size == 126:
            size, start = int.from_bytes(got[2:4]), 8
        elif size == 127:
            size, start = int.from_bytes(got[2:10]), 14
        return start + size if len(got) >= start else 0

    @staticmethod
    def _answer(frame: bytes) -> bytes:
        opcode, short = frame[0] & 0x0F, frame[1] & 0x7F
        start = {126: 8, 127: 14}.get(short, 6)
        key, masked = frame[start - 4 : start], frame[start:]
        whole = (key * (len(masked) // 4 + 1))[: len(masked)]
        body = (int.from_bytes(masked) ^ int.from_bytes(whole)).to_bytes(len(masked))
        if opcode == _PONG:
            return b""
        first = bytes([frame[0] & 0xF0 | _PONG if opcode == _PING else frame[0]])
        return first + bytes([short]) + frame[2 : start - 4] + body


_DATA, _HEADERS, _RESET, _SETTINGS, _PING2, _GOAWAY, _UPDATE = 0, 1, 3, 4, 6, 7, 8
_END, _ACK, _PADDED, _END_HEADERS = 1, 1, 8, 4
_WINDOW = 65_535
_LARGEST = 2**31 - 1
_GRANT_BYTES = 1 << 20
# Fields that enter nobody's table (RFC 7541 §6.2.2), but for :status 200, which is in the static one.
_OK = b"\x88" + b"\x0f\x10\x10application/grpc"
_FINE = b"\x00\x0bgrpc-status\x010"


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + body


@attrs.define(eq=False)
class _Call:
    window: int
    taken: int = 0
    begun: bool = False


@attrs.define(eq=False)
class GrpcServing:
    """Any gRPC method: what comes on a stream goes back on it as it comes, and status 0 at the end.

    Nothing of a head is needed for that, so heads are not even decoded.
    """

    _got: bytearray = attrs.field(factory=bytearray)
    _begun: bool = False
    _window: int = _WINDOW
    _initial: int = _WINDOW
    _taken: int = 0
    _calls: dict[int, _Call] = attrs.field(factory=dict)
    _waiting: deque[tuple[int, bytes]] = attrs.field(factory=deque)
    """Streams and data that the peer's windows have no room for; b"": the end of the stream."""

    def receive(self, data: bytes) -> bytes:
        got, out = self._got, bytearray()
        got += data
        if not self._begun:
            if len(got) < 24:
                return b""
            if not got.startswith(b"PRI * HTTP/2.0\r\n"):
                raise ValueError("not HTTP/2")
            del got[:24]
            self._begun = True
            settings = b"\x00\x03" + (1000).to_bytes(4) + b"\x00\x04" + _LARGEST.to_bytes(4)
            out += _frame(_SETTINGS, 0, 0, settings)
            out += _frame(_UPDATE, 0, 0, (_LARGEST - _WINDOW).to_bytes(4))
        while len(got) >= 9:
            end = 9 + int.from_bytes(got[:3])
            if len(got) < end:
                break
            frame = bytes(got[:end])
            del got[:end]
            stream = int.from_bytes(frame[5:9]) & 0x7FFFFFFF
            self._take(frame[3], frame[4], stream, frame[9:], out)
        self._send(out)
        return bytes(out)

    def _take(self, kind: int, flags: int, stream: int, body: bytes, out: bytearray) -> None:
        if kind == _HEADERS:
            self._calls.setdefault(stream, _Call(self._initial))
            if flags & _END:
                self._waiting.append((stream, b""))
        elif kind == _DATA:
            self._data(flags, stream, body, out)
        elif kind == _SETTINGS and not flags & _ACK:
            for at in range(0, len(body), 6):
                if body[at : at + 2] == b"\x00\x04":
                    initial = int.from_bytes(body[at + 2 : at + 6])
                    for call in self._calls.values():
                        call.window += initial - self._initial
                    self._initial = initial
            out += _frame(_SETTINGS, _ACK, 0, b"")
        elif kind == _PING2 and not flags & _ACK:
            out += _frame(_PING2, _ACK, 0, body)
        elif kind == _UPDATE:
            if not stream:
                self._window += int.from_bytes(body)
            elif (asked := self._calls.get(stream)) is not None:
                asked.window += int.from_bytes(body)
        elif kind == _RESET:
            self._calls.pop(stream, None)

    def _data(self, flags: int, stream: int, body: bytes, out: bytearray) -> None:
        size = len(body)
        if flags & _PADDED:
            body = body[1 : size - body[0]]
        call = self._calls.get(stream)
        self._taken += size
        if self._taken > _GRANT_BYTES:
            out += _frame(_UPDATE, 0, 0, self._taken.to_bytes(4))
            self._taken = 0
        if call is None:
            return
        call.taken += size
        if call.taken > _GRANT_BYTES and not flags & _END:
            out += _frame(_UPDATE, 0, stream, call.taken.to_bytes(4))
            call.taken = 0
        if body:
            self._waiting.append((stream, body))
        if flags & _END:
            self._waiting.append((stream, b""))

    def _send(self, out: bytearray) -> None:
        while self._waiting:
            stream, data = self._waiting[0]
            call = self._calls.get(stream)
            if call is not None and data and len(data) > min(call.window, self._window):
                return
            self._waiting.popleft()
            if call is None:
                continue
            if not call.begun:
                call.begun = True
                out += _frame(_HEADERS, _END_HEADERS, stream, _OK)
            if data:
                call.window -= len(data)
                self._window -= len(data)
                out += _frame(_DATA, 0, stream, data)
            else:
                del self._calls[stream]
                out += _frame(_HEADERS, _END_HEADERS | _END, stream, _FINE)


KINDS: Mapping[str, Callable[[], Serving]] = {
    "echo": EchoServing,
    "websocket": WebSocketServing,
    "grpc": GrpcServing,
}


@attrs.define(eq=False)
class _Peer:
    sock: socket.socket
    serving: Serving
    unsent: bytearray = attrs.field(factory=bytearray)
    armed: bool = False


@attrs.define(eq=False)
class Server:
    """See the module."""

    make: Callable[[], Serving]
    port: int
    delay: float
    """Seconds that every answer waits."""
    _poll: select.epoll = attrs.field(factory=select.epoll)
    _peers: dict[int, _Peer] = attrs.field(factory=dict)
    _later: deque[tuple[float, _Peer, bytes]] = attrs.field(factory=deque)

    def serve(self) -> None:
        """Serve until killed."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        self._poll.register(listener.fileno(), select.EPOLLIN)
        while True:
            left = self._later[0][0] - time.monotonic() if self._later else 60.0
            for fd, mask in self._poll.poll(max(0.0, left)):
                if fd == listener.fileno():
                    self._accept(listener)
                elif (peer := self._peers.get(fd)) is not None:
                    self._serve(peer, mask)
            while self._later and self._later[0][0] <= time.monotonic():
                _, peer, data = self._later.popleft()
                self._write(peer, data)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._peers[sock.fileno()] = _Peer(sock, self.make())
            self._poll.register(sock.fileno(), select.EPOLLIN)

    def _serve(self, peer: _Peer, mask: int) -> None:
        if mask & select.EPOLLOUT:
            self._write(peer, b"")
        if not mask & ~select.EPOLLOUT or peer.sock.fileno() < 0:
            return
        try:
            data = peer.sock.recv(_CHUNK_BYTES)
            answer = peer.serving.receive(data) if data else None
        except BlockingIOError:
            return
        except (OSError, ValueError):
            answer = None
        if answer is None:
            self._close(peer)
        elif answer and self.delay:
            self._later.append((time.monotonic() + self.delay, peer, answer))
        elif answer:
            self._write(peer, answer)

    def _write(self, peer: _Peer, data: bytes) -> None:
        fd = peer.sock.fileno()
        if fd < 0:
            return
        peer.unsent += data
        try:
            while peer.unsent:
                del peer.unsent[: peer.sock.send(peer.unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._close(peer)
            return
        if peer.armed != bool(peer.unsent):
            peer.armed = bool(peer.unsent)
            # A peer that does not take what it gets back is not read either.
            self._poll.modify(fd, select.EPOLLOUT if peer.armed else select.EPOLLIN)

    def _close(self, peer: _Peer) -> None:
        del self._peers[peer.sock.fileno()]
        peer.sock.close()


def main() -> None:
    """Run as a program."""
    raise_file_limit()
    kind, port, *delay = sys.argv[1:]
    Server(KINDS[kind], int(port), float(delay[0]) / 1e3 if delay else 0.0).serve()


if __name__ == "__main__":
    main()
