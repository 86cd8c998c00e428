"""Which connections go when the process is short of something: those that nobody would miss, the idlest first."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Final

import trio

from xproxy.proxy.active_listener import ActiveListener
from xproxy.proxy.connection import Connection

AT_ONCE: Final = 16
"""Connections closed at a time: looking for them costs a look at all."""
SILENT_SECONDS: Final = 0.05
"""Who has not said yet what it wants may be closed after so long …"""
IDLE_SECONDS: Final = 10.0
"""… and who has, once it has asked for nothing for so long."""
_LOOK_AGAIN: Final = 0.1
"""Seconds at most until anybody is looked for again after there was none; sooner if somebody's time comes."""
_LEAST_PAUSE: Final = 0.05
"""Seconds at least between two such looks at all."""


class Shedding:
    """Closes idle connections of a process's listeners."""

    __slots__ = ("_idle_seconds", "_listeners", "_next_at", "_none_until")

    def __init__(
        self, listeners: Iterable[ActiveListener], idle_seconds: float = IDLE_SECONDS
    ) -> None:
        """``listeners``: those whose connections may go, as they are at each time."""
        self._listeners = listeners
        self._idle_seconds = idle_seconds
        self._none_until = float("-inf")
        self._next_at = float("inf")  # when the first of those that were seen may go

    def __call__(self) -> bool:
        """Close a few; False: there was none to close. Never blocks."""
        now = trio.current_time()
        if now < self._none_until:
            return False
        self._next_at = float("inf")
        found = heapq.nsmallest(AT_ONCE, self._idle(now), key=lambda one: one[:2])
        if found and not found[0][0]:
            # As long as somebody is there who never spoke, nobody goes who may be between two requests.
            found = [one for one in found if not one[0]]
        for _, _, listener, connection in found:
            listener.stats.downstream_cx_shed += 1
            connection.shed()
        if not found:
            self._none_until = max(min(now + _LOOK_AGAIN, self._next_at), now + _LEAST_PAUSE)
        return bool(found)

    def _idle(self, now: float) -> Iterator[tuple[bool, float, ActiveListener, Connection]]:
        # Those that never said a word before those that may be between two requests.
        for listener in self._listeners:
            for connection in listener.connections.values():
                known = connection.driver is not None
                since = connection.idle_since
                if since is None:
                    continue
                goes_at = since + (self._idle_seconds if known else SILENT_SECONDS)
                if now >= goes_at:
                    yield known, since, listener, connection
                else:
                    self._next_at = min(self._next_at, goes_at)
