"""A load of HTTP/2 requests that counts what becomes of each: on every connection so many are always in flight."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.process.product import PATIENCE
from xproxy.codecs.api import Codec
from xproxy.codecs.http2.plugin import Http2Plugin
from xproxy.model.frames import Data, GoAway, Head, Reply, Reset, Trailers, Violation
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead, Target
from xproxy.model.traits import Role

REQUEST: Final = RequestHead(service="a", method="GET", extra=Target(path="/load", version="2"))


class Http2Load:
    """So many connections, each a thread, with ``depth`` requests in flight on each."""

    def __init__(self, port: int, connections: int, depth: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self._port = port
        self._depth = depth
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._client) for _ in range(connections)]

    @property
    def failed(self) -> dict[str, int]:
        """Outcomes that a user would notice."""
        fine = {"ok", "refused connection", "goodbye", "after the goodbye"}
        return {what: count for what, count in self.outcomes.items() if what not in fine}

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let what is in flight end, and wait for it. Idempotent."""
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def wait(self, requests: int) -> None:
        """Return when so many more requests have been answered."""
        deadline, wanted = time.monotonic() + PATIENCE, self.outcomes["ok"] + requests
        while self.outcomes["ok"] < wanted:
            assert time.monotonic() < deadline, self.outcomes
            time.sleep(0.005)

    def _note(self, outcome: str, count: int = 1) -> None:
        with self._lock:
            self.outcomes[outcome] += count

    def _client(self) -> None:
        while not self._over.is_set():
            try:
                client = socket.create_connection(("127.0.0.1", self._port), PATIENCE)
            except OSError:
                self._note("refused connection")
                return
            with client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _Connection(client, self).run()

    def _more(self) -> bool:
        return not self._over.is_set()


class _Connection:
    def __init__(self, client: socket.socket, load: Http2Load) -> None:
        self._client = client
        self._load = load
        plugin = Http2Plugin()
        self._codec: Codec = plugin.open(Role.CLIENT, DEFAULT_LIMITS)
        self._next_id = 1
        self._in_flight: set[int] = set()
        self._leaving = False

    def run(self) -> None:
        """Ask until there is no more to ask, or the server says goodbye; then until all is answered."""
        load = self._load
        out = b"".join(f.data for f in self._codec.receive(b"") if isinstance(f, Reply))
        ended = False
        try:
            while not ended:
                while len(self._in_flight) < load._depth and load._more() and not self._leaving:
                    out += self._codec.send(Head(self._next_id, REQUEST, b"", True))
                    self._in_flight.add(self._next_id)
                    self._next_id += 2
                if out:
                    self._client.sendall(out)
                    out = b""
                if not self._in_flight:
                    return
                data = self._client.recv(1 << 16)
                for frame in self._codec.receive(data or None):
                    if isinstance(frame, Reply):
                        out += frame.data
                    elif isinstance(frame, Violation):
                        load._note(f"violation: {frame.detail}")
                        return
                    else:
                        self._take(frame)
                ended = not data
        except OSError as exc:
            load._note(f"{type(exc).__name__} with {len(self._in_flight)} in flight")
        if self._in_flight:
            load._note("not answered", len(self._in_flight))

    def _take(self, frame: object) -> None:
        load = self._load
        if isinstance(frame, Reset):
            self._in_flight.discard(frame.stream_id)
            load._note("after the goodbye" if frame.refused and self._leaving else "reset")
        elif isinstance(frame, GoAway):
            self._leaving = True
            load._note("goodbye")
            for stream_id in [i for i in self._in_flight if i > (frame.last_stream_id or 0)]:
                self._in_flight.discard(stream_id)
                load._note("after the goodbye")
        elif isinstance(frame, Head | Data | Trailers):
            if isinstance(frame, Head) and frame.message.native_status != 200:  # type: ignore[union-attr]  # a response
                load._note(f"status {frame.message.native_status}")  # type: ignore[union-attr]  # as above
            if isinstance(frame, Trailers) or frame.end:
                self._in_flight.discard(frame.stream_id)
                load._note("ok")


@contextmanager
def http2_load(port: int, connections: int, depth: int = 16) -> Iterator[Http2Load]:
    """Make load for as long as the block takes."""
    found = Http2Load(port, connections, depth)
    found.start()
    try:
        yield found
    finally:
        found.stop()
