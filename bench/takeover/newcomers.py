"""Clients that come one after the other while something happens to the proxy: none may find the door shut."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import attrs

PATIENCE_SECONDS = 10.0
_PAUSE_SECONDS = 0.01
_THREADS = 2


@attrs.frozen
class Visit:
    """One client: it connects, asks once and leaves. Times are of ``time.monotonic``."""

    began: float
    ended: float
    error: str


@attrs.define(eq=False)
class Visits:
    """All of them so far."""

    found: list[Visit] = attrs.field(factory=list)

    def since(self, moment: float) -> list[Visit]:
        """Return those that came after it."""
        return [visit for visit in self.found if visit.began > moment]

    @property
    def longest(self) -> float:
        """Seconds that the slowest good one took."""
        return max((v.ended - v.began for v in self.found if not v.error), default=0.0)


@contextmanager
def coming(port: int) -> Iterator[Visits]:
    """Let clients of HTTP/1.1 come, until the block is left."""
    visits, over = Visits(), threading.Event()

    def go_on() -> None:
        while not over.wait(_PAUSE_SECONDS):
            visits.found.append(_visit(port))

    threads = [threading.Thread(target=go_on) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    try:
        yield visits
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _visit(port: int) -> Visit:
    began, error = time.monotonic(), ""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", "/newcomer")
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            error = f"status {answer.status}"
    except (OSError, http.client.HTTPException) as exc:
        error = repr(exc)
    finally:
        connection.close()
    return Visit(began, time.monotonic(), error)
