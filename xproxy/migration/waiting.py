"""Clients' connections that have not gone: whose turn it is to be offered, and why the others wait or stay."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from typing import Final

from xproxy.connection.standing import Standing
from xproxy.migration.movable import MovableDownstream, relaying
from xproxy.proxy.adopting import Codecs
from xproxy.proxy.connection import SupportsSeek
from xproxy.proxy.runtime import Runtime

LOOK_AGAIN: Final = 0.1
"""Seconds until what could not move is looked at again, where its driver does not tell …"""
SELDOM: Final = 1.0
"""… and where it does."""
IDLE_FIRST: Final = 1.0
"""Seconds for which one that could only move with streams in flight is waited for to be idle."""
_MOVABLE: Final = frozenset({Standing.IDLE, Standing.RELAY, Standing.FLOWING})


class Waiting:
    """Of one takeover. It offers nothing."""

    def __init__(
        self,
        runtime: Runtime,
        found: Callable[[MovableDownstream], bool],
        *,
        rehearsal: bool,
    ) -> None:
        """``found`` is called when a driver says that its connection can be frozen now; it says whether it was."""
        self._runtime = runtime
        self._found = found
        self._patience = 0.0 if rehearsal else IDLE_FIRST
        self._codecs = Codecs(runtime.registry)
        self._waiting: dict[int, MovableDownstream] = {}
        # By the identity of their connections: those that have neither gone nor are kept.
        self._kept: dict[int, MovableDownstream] = {}
        self._listed: set[int] = set()
        # Ids of all connections that were ever among these.
        self._ready: deque[MovableDownstream] = deque()
        self._later: list[tuple[float, int, MovableDownstream]] = []
        # A heap: when to look at it again (trio clock). Of each, the soonest time counts.
        self._turns = itertools.count()
        self._whole: int | None = None
        # How many there were at the beginning.

    # ---- who there is

    def list_all(
        self, unreadable: Callable[[MovableDownstream], str]
    ) -> list[tuple[MovableDownstream, str]]:
        """Take up those that are new, and return the ones of these that are to be kept, and why.

        Nobody is accepted any more: who comes after the first time comes from an older process.
        ``unreadable`` says why the other side could not read what would be written of one; empty: it could.
        """
        kept: list[tuple[MovableDownstream, str]] = []
        snapshot = self._runtime.snapshot
        clusters = snapshot.clusters if snapshot is not None else {}
        for active in self._runtime.every_listener:
            for connection in active.connections.values():
                if connection.id in self._listed or relaying(connection):
                    continue
                self._listed.add(connection.id)
                item = MovableDownstream(active, connection, self._codecs, clusters)
                self._waiting[id(connection)] = item
                stopped = active.chains.main.draining
                why = "its listener has stopped" if stopped else unreadable(item)
                if why:
                    kept.append((item, why))
                else:
                    self._now(item)
        if self._whole is None:
            self._whole = len(self._waiting) - len(kept)
        return kept

    def keep(self, item: MovableDownstream, why: str) -> None:
        """It stays, and ends here."""
        self.gone(item)
        self._kept[id(item.connection)] = item
        item.waits, item.out = why, False
        item.connection.seek(None)

    def gone(self, item: MovableDownstream) -> None:
        """It has left, or ended."""
        self._waiting.pop(id(item.connection), None)

    def by_protocol(self) -> dict[str, int]:
        """Count those that wait or are kept."""
        every = (*self._waiting.values(), *self._kept.values())
        return dict(Counter(item.name for item in every if not item.gone))

    def why_waiting(self) -> dict[str, int]:
        """Count those that wait, by protocol and reason."""
        return dict(
            Counter(
                f"{item.name}: {item.waits}" for item in self._waiting.values() if not item.gone
            )
        )

    @property
    def share_gone(self) -> float:
        """Which share of those of the beginning waits no more, from 0 to 1."""
        return 1 - len(self._waiting) / self._whole if self._whole else 1.0

    @property
    def any_ready(self) -> bool:
        """Whether there is one to be looked at."""
        return bool(self._ready)

    @property
    def soonest(self) -> float | None:
        """When the next one is to be looked at again (trio clock); None: there is none."""
        return self._later[0][0] if self._later else None

    def may_go(self) -> bool:
        """Say whether any of those that wait may be able to move soon."""
        return any(
            not item.gone and item.standing is not Standing.NEVER for item in self._waiting.values()
        )

    def close(self) -> None:
        """Let no driver tell any more when its connection can be frozen."""
        for item in self._waiting.values():
            if item.seeking:
                item.connection.seek(None)

    # ---- whose turn it is

    def look_again(self, item: MovableDownstream, at: float) -> None:
        """Look at one again at this time (trio clock) or before, unless it was offered by then."""
        # Put off time and again, as by a new process that is full, it has one turn, and not one for each time.
        if at < item.look_at:
            item.look_at = at
            heapq.heappush(self._later, (at, next(self._turns), item))

    def put_off(self, item: MovableDownstream, now: float) -> None:
        """Offer one no sooner than in ``LOOK_AGAIN`` seconds, whatever its driver says."""
        item.not_before = now + LOOK_AGAIN
        self.look_again(item, item.not_before)

    def wake(self, now: float) -> None:
        """Look again at those whose time has come."""
        while self._later and self._later[0][0] <= now:
            at, _, item = heapq.heappop(self._later)
            if at == item.look_at:  # else it had a sooner turn
                item.look_at = math.inf
                self._now(item)

    def _now(self, item: MovableDownstream) -> None:
        if not item.ready:
            item.ready = True
            self._ready.append(item)

    def next(self, now: float) -> MovableDownstream | None:
        """Return one that can be offered now; None: there is none, and all have been looked at."""
        while self._ready:
            item = self._ready.popleft()
            item.ready = False
            if item.gone:
                self.gone(item)
            elif not item.out and id(item.connection) in self._waiting and self._ripe(item, now):
                return item
        return None

    def movable(self, item: MovableDownstream, now: float) -> bool:
        """Say whether one whose driver says so can be offered now."""
        if item.out or now < item.not_before or id(item.connection) not in self._waiting:
            return False
        standing = item.standing
        return standing in _MOVABLE and (standing is not Standing.RELAY or now >= item.idle_by)

    def _ripe(self, item: MovableDownstream, now: float) -> bool:
        # Whether it can be offered now; if not, it is looked at again.
        standing = item.standing
        if standing in (Standing.IDLE, Standing.FLOWING):
            return True
        if not item.seeking:
            item.seeking = isinstance(item.connection.movable, SupportsSeek)
            item.connection.seek(partial(self._found, item))
            if item.out:
                return False  # it was frozen just now
        again = now + (SELDOM if item.seeking else LOOK_AGAIN)
        if standing is Standing.RELAY:
            item.idle_by = item.idle_by or now + self._patience
            if now >= item.idle_by:
                return True
            again = min(again, item.idle_by)
        elif item.connection.driver is None:
            item.waits = "its protocol is not known yet"
        elif standing is Standing.NEVER:
            item.waits = "it is ending"
        else:
            why = getattr(item.connection.driver, "why", "")
            item.waits = f"a stream is in flight: {why}" if why else "a stream is in flight"
        self.look_again(item, again)
        return False
