"""Long streams, each byte of which is compared: ``python -m bench.takeover.bulk`` reads its orders as a line of JSON.

A thread for each stream, with a socket that waits. It prints what became of each transfer when all have ended; where
they are to be repeated, that is after its input has ended.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Literal

import attrs
import cattrs
import h2.config
import h2.connection
import h2.events
import h2.exceptions

from bench.takeover.kinds import KINDS, SERVER_NAME
from bench.takeover.pattern import Check, Differs, blocks, digest
from bench.takeover.speakers.http1 import AUTHORITY

Way = Literal["down", "up"]
STALL_SECONDS = 60.0
"""A stream on which nothing moves for so long has failed."""
_CHUNK_BYTES = 1 << 18
_H2_WINDOW = 1 << 24
_LONGEST_TOLD = 4096


@attrs.frozen(kw_only=True)
class Transfer:
    """A stream."""

    kind: Literal["http1", "tls-http1", "tls12-http1", "http2", "tls-http2", "l4"]
    way: Way
    port: int
    size: int
    """Bytes."""
    pace: float
    """Bytes a second at most."""


@attrs.frozen(kw_only=True)
class Orders:
    """What is to be done."""

    transfers: tuple[Transfer, ...]
    repeat: bool
    """Begin each again, on a new connection, until the input ends."""
    authority: str


@attrs.frozen(kw_only=True)
class Transferred:
    """What became of one. Times are of ``time.monotonic``."""

    kind: str
    way: str
    size: int
    began: float
    ended: float
    error: str
    """Empty: every byte was as it should be."""


@attrs.define(eq=False)
class Pace:
    """Holds back who is too fast."""

    rate: float
    over: threading.Event
    """From then on there is no hurry left to be held back."""
    moved: int = 0
    _began: float = attrs.field(factory=time.monotonic)

    def moving(self, count: int) -> None:
        """Say that so many bytes have moved; wait until they were due."""
        self.moved += count
        early = self.moved / self.rate - (time.monotonic() - self._began)
        if early > 0:
            self.over.wait(early)


def _dial(transfer: Transfer, authority: Path) -> socket.socket:
    raw = socket.create_connection(("127.0.0.1", transfer.port), STALL_SECONDS)
    context = KINDS[transfer.kind].context(authority)
    if context is None:
        return raw
    try:
        return context.wrap_socket(raw, server_hostname=SERVER_NAME)
    except BaseException:
        raw.close()
        raise


def _received(sock: socket.socket) -> bytes:
    data = sock.recv(_CHUNK_BYTES)
    if not data:
        raise ConnectionError("closed before the end")
    return data


def _told(transfer: Transfer, seed: int) -> bytes:
    return f"{transfer.size} {digest(seed, transfer.size)}".encode()


def _compare(got: bytes, due: bytes) -> None:
    if got != due:
        raise Differs(f"the peer took {got!r}, not {due!r}")


def _http1(sock: socket.socket, transfer: Transfer, seed: int, pace: Pace) -> None:
    target = f"/bulk/{seed}/{transfer.size}"
    host = f"Host: {AUTHORITY}\r\n"
    if transfer.way == "down":
        sock.sendall(f"GET {target} HTTP/1.1\r\n{host}\r\n".encode())
    else:
        length = f"Content-Length: {transfer.size}\r\n"
        sock.sendall(f"POST {target} HTTP/1.1\r\n{host}{length}\r\n".encode())
        for block in blocks(seed, transfer.size):
            sock.sendall(block)
            pace.moving(len(block))
    got = b""
    while b"\r\n\r\n" not in got:
        got += _received(sock)
    head, _, body = got.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise ConnectionError(f"answered with {head[:200]!r}")
    if transfer.way == "down":
        _read(sock, Check(seed, transfer.size), body, pace)
        return
    due = _told(transfer, seed)
    while len(body) < len(due):
        body += _received(sock)
    _compare(body, due)


def _read(sock: socket.socket, check: Check, first: bytes, pace: Pace) -> None:
    check.take(first)
    while check.taken < check.size:
        data = _received(sock)
        check.take(data)
        pace.moving(len(data))


def _raw(sock: socket.socket, transfer: Transfer, seed: int, pace: Pace) -> None:
    if transfer.way == "down":
        sock.sendall(b"\xffdown %d %d\n" % (seed, transfer.size))
        _read(sock, Check(seed, transfer.size), b"", pace)
        return
    sock.sendall(b"\xffup %d\n" % transfer.size)
    for block in blocks(seed, transfer.size):
        sock.sendall(block)
        pace.moving(len(block))
    got = b""
    while not got.endswith(b"\n") and len(got) < _LONGEST_TOLD:
        got += _received(sock)
    _compare(got.strip(), _told(transfer, seed))


def _http2(sock: socket.socket, transfer: Transfer, seed: int, pace: Pace) -> None:
    wire = h2.connection.H2Connection(
        h2.config.H2Configuration(client_side=True, header_encoding=None)
    )
    wire.initiate_connection()
    wire.increment_flow_control_window(_H2_WINDOW)
    down = transfer.way == "down"
    stream = wire.get_next_available_stream_id()
    fields = [
        (":method", "GET" if down else "POST"),
        *((":scheme", "http"), (":authority", AUTHORITY)),
        (":path", f"/bulk/{seed}/{transfer.size}"),
        *(() if down else (("content-length", str(transfer.size)),)),
    ]
    wire.send_headers(stream, fields, end_stream=down)
    check = Check(seed, transfer.size)
    body, ended = b"", False
    unsent = iter(()) if down else _pieces(seed, transfer.size)
    piece = next(unsent, b"")
    while not ended:
        while piece and (room := wire.local_flow_control_window(stream)) > 0:
            part = piece[: min(room, wire.max_outbound_frame_size)]
            piece = piece[len(part) :] or next(unsent, b"")
            wire.send_data(stream, part, end_stream=not piece)
            sock.sendall(wire.data_to_send())
            pace.moving(len(part))
        sock.sendall(wire.data_to_send())
        for event in wire.receive_data(_received(sock)):
            if isinstance(event, h2.events.DataReceived):
                if down:
                    check.take(event.data)
                    pace.moving(len(event.data))
                else:
                    body += event.data
                if event.flow_controlled_length:
                    wire.acknowledge_received_data(event.flow_controlled_length, stream)
            elif isinstance(event, h2.events.ResponseReceived):
                if dict(event.headers)[b":status"] != b"200":
                    raise ConnectionError(f"answered with {event.headers!r}")
            elif isinstance(event, h2.events.StreamEnded):
                ended = True
            elif isinstance(event, h2.events.StreamReset):
                raise ConnectionError(f"reset, {event.error_code!r}")
            elif isinstance(event, h2.events.ConnectionTerminated):
                raise ConnectionError(f"GOAWAY, {event.error_code!r}")
    if down:
        check.end()
    else:
        _compare(body, _told(transfer, seed))


def _pieces(seed: int, size: int) -> Iterator[bytes]:
    yield from blocks(seed, size)


_BY_KIND: Mapping[str, Callable[[socket.socket, Transfer, int, Pace], None]] = {
    "http1": _http1,
    "tls-http1": _http1,
    "tls12-http1": _http1,
    "http2": _http2,
    "tls-http2": _http2,
    "l4": _raw,
}


def transferred(
    transfer: Transfer, seed: int, authority: Path, over: threading.Event
) -> Transferred:
    """Carry one out and say what became of it; whatever goes wrong is in what is returned."""
    began, error = time.monotonic(), ""
    try:
        with closing(_dial(transfer, authority)) as sock:
            _BY_KIND[transfer.kind](sock, transfer, seed, Pace(transfer.pace, over))
    except (OSError, Differs, ssl.SSLError, h2.exceptions.ProtocolError) as exc:
        error = repr(exc)
    return Transferred(
        kind=transfer.kind,
        way=transfer.way,
        size=transfer.size,
        began=began,
        ended=time.monotonic(),
        error=error,
    )


def carry_out(orders: Orders, over: threading.Event) -> list[Transferred]:
    """Carry all of them out at once; ``over`` ends their repetition and their pace."""
    found: list[Transferred] = []

    def one(number: int, transfer: Transfer) -> None:
        seed = number << 32
        while True:
            found.append(transferred(transfer, seed, Path(orders.authority), over))
            seed += 1
            if not orders.repeat or over.is_set():
                return
            if found[-1].error:
                over.wait(0.1)

    threads = [
        threading.Thread(target=one, args=(number, transfer))
        for number, transfer in enumerate(orders.transfers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(found, key=lambda one: one.began)


def main() -> None:
    """Run as a program."""
    orders = cattrs.structure(json.loads(sys.stdin.readline()), Orders)
    over = threading.Event()
    if orders.repeat:

        def wait() -> None:
            sys.stdin.read()
            over.set()

        threading.Thread(target=wait, daemon=True).start()
    found = carry_out(orders, over)
    print(json.dumps([attrs.asdict(one) for one in found]), flush=True)


if __name__ == "__main__":
    main()
