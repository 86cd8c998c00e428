"""A client of HTTP/1.1 that forgives nothing: what happens to each of its requests is counted."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.process.product import PATIENCE

REQUEST: Final = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"


class Load:
    """Connections that each make one request after the other.

    ``outcomes`` counts: ``ok``, ``announced`` (the answer came and said that it was the last on its connection),
    ``refused`` (a new connection was not accepted), and anything else, by name, which is a failed request.
    """

    def __init__(self, port: int, connections: int, pause: float = 0.0) -> None:
        """``pause``: seconds between an answer and the next request of a client; 0: as fast as it can."""
        self._pause = pause
        self.outcomes: Counter[str] = Counter()
        self._port = port
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._client) for _ in range(connections)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish what is in flight, and return when all clients have."""
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    @property
    def alive(self) -> int:
        """Clients that go on."""
        return sum(thread.is_alive() for thread in self._threads)

    @property
    def failed(self) -> dict[str, int]:
        """What must not happen."""
        fine = ("ok", "announced", "refused")
        return {name: count for name, count in self.outcomes.items() if name not in fine}

    def wait(self, requests: int) -> None:
        """Return when so many more requests have been answered."""
        deadline, wanted = time.monotonic() + PATIENCE, self.outcomes["ok"] + requests
        while self.outcomes["ok"] < wanted:
            assert time.monotonic() < deadline, self.outcomes
            time.sleep(0.005)

    def _note(self, outcome: str) -> None:
        with self._lock:
            self.outcomes[outcome] += 1

    def _client(self) -> None:
        while not self._over.is_set():
            try:
                client = socket.create_connection(("127.0.0.1", self._port), PATIENCE)
            except OSError:
                self._note("refused")
                return
            with client:
                while not self._over.is_set():
                    outcome = self._exchange(client)
                    self._note(outcome)
                    if outcome != "ok":
                        break
                    if self._pause:
                        self._over.wait(self._pause)

    def _exchange(self, client: socket.socket) -> str:
        received = b""
        try:
            client.sendall(REQUEST)
            while True:
                data = client.recv(65536)
                if not data:
                    return "closed in the middle" if received else "closed without an answer"
                received += data
                head, found, body = received.partition(b"\r\n\r\n")
                if found:
                    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                    if len(body) >= length:
                        break
        except ConnectionError:
            return "reset in the middle" if received else "reset without an answer"
        if not head.startswith(b"HTTP/1.1 200 "):
            return head.split(b"\r\n")[0].decode()
        if b"\r\nconnection: close" in head.lower():
            self._note("ok")
            return "announced"
        return "ok"


@contextmanager
def load(port: int, connections: int, pause: float = 0.0) -> Iterator[Load]:
    """Make load for as long as the block takes; ``pause``: see ``Load``."""
    found = Load(port, connections, pause)
    found.start()
    try:
        yield found
    finally:
        found.stop()
