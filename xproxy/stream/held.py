"""How many bytes of messages the process holds, and for whom: counted where they are held, bounded in all.

Every connection has a share. Near the bound nothing more is read from connections that hold much; what holds next to
nothing goes on, so that small messages pass beside large ones, and one at a time of those that hold much goes on too,
so that what was begun comes to an end. Above the bound whoever holds most is told that there is too much.
(idea: envoy:source/server/overload_manager_impl.h, which watches the heap; here it is known who holds what)

What is shorter than ``COUNTED`` is not counted: it comes and goes within a turn or two, and ``max_streams`` bounds
it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final, Protocol

import attrs
import trio

from xproxy.model.limits import KIB

COUNTED: Final = 4 * KIB
"""Bodies, and pieces of messages, that are shorter are not counted."""
FREE: Final = 64 * KIB
"""A connection that holds no more than this is always read. Too many of them are relieved like others."""
TOO_MUCH: Final = "the process holds too many bytes (overload.max_held_bytes)"
"""What a stream is told that is relieved."""
_NEAR: Final = 7
"""Eighths of the bound at which reading stops."""
_AT_ONCE: Final = 16
"""Connections relieved at a time: looking for them costs a look at all."""
_TURN: Final = 1.0
"""Seconds for which one that holds much may go on reading, before it is another one's turn."""


class Holder(Protocol):
    """A connection that can be told to let go of what it holds."""

    def relieve(self) -> None:
        """Answer, or break off, what makes it hold so much. Called again if that was not enough. Never blocks."""
        ...


@attrs.define(eq=False)
class HeldStats:
    """What the process holds."""

    held_bytes: int = attrs.field(default=0, metadata={"kind": "gauge"})
    """Of messages, in all connections."""
    max_held_bytes: int = attrs.field(default=0, metadata={"kind": "gauge"})
    """The bound."""
    held_back_total: int = 0
    """Times that a connection was not read for a while."""
    relieved_total: int = 0
    """Times that a connection's streams were answered with overload."""


class Held:
    """The process's bytes. ``run`` must be running."""

    __slots__ = (
        "_above",
        "_oldest",
        "_waiting",
        "give_back",
        "near",
        "shares",
        "stats",
        "was_near",
    )

    def __init__(self, most: int = 1 << 62) -> None:
        self.stats = HeldStats()
        self.shares: set[Share] = set()
        """Those that hold something."""
        self.near = 0
        self.was_near = False
        """So much was held since memory was last given back."""
        self.give_back: Callable[[], None] = _keep
        """Let the system have what was freed: called when much was held, and little is any more. May take some ms."""
        self._above = trio.Event()
        self._waiting = trio.lowlevel.ParkingLot()
        self._oldest: tuple[Share, float] | None = (
            None  # whose turn it is, and until when (trio clock)
        )
        self.bound(most)

    def bound(self, most: int) -> None:
        """Hold at most so many bytes from now on."""
        self.stats.max_held_bytes = most
        self.near = most // 8 * _NEAR
        self._waiting.unpark_all()

    @property
    def is_near(self) -> bool:
        """Connections that hold much are not read."""
        return self.stats.held_bytes >= self.near

    def share(self, holder: Holder | None, most: int = 1 << 62) -> Share:
        """Return the share of a connection, which holds ``most`` bytes at most before it is read no more."""
        return Share(self, holder, most)

    async def run(self) -> None:
        """Relieve the process of what is too much, until cancelled."""
        stats = self.stats
        while True:
            await self._above.wait()
            self._above = trio.Event()
            if self.was_near and stats.held_bytes < self.near // 2:
                self.was_near = False
                self.give_back()
            while (surplus := stats.held_bytes - stats.max_held_bytes) > 0:
                greediest = heapq.nlargest(
                    _AT_ONCE,
                    (share for share in self.shares if share.holder is not None),
                    key=lambda share: share.held,
                )
                if not greediest:
                    break  # whose connections have ended: it is about to be let go
                before = stats.held_bytes
                for share in greediest:
                    if surplus > 0 and share.holder is not None:
                        surplus -= share.held
                        stats.relieved_total += 1
                        share.holder.relieve()
                # Their streams end in the next round or two; only then it is known what else must go.
                for _ in range(4):
                    await trio.lowlevel.checkpoint()
                    if stats.held_bytes < before:
                        break
                else:
                    await self.wait()

    def may_go_on(self, share: Share) -> bool:
        """Say whether it is this one's turn to go on though there is little room."""
        now = trio.current_time()
        oldest = self._oldest
        if oldest is not None and oldest[0] in self.shares and now < oldest[1]:
            return oldest[0] is share
        self._oldest = (share, now + _TURN)
        return True

    async def wait(self) -> None:
        """Return when something has been let go, or it may be another one's turn."""
        with trio.move_on_after(_TURN / 4):
            await self._waiting.park()

    def changed(self) -> None:
        """There is less than before: let those who wait look."""
        if self.was_near and self.stats.held_bytes < self.near // 2:
            self._above.set()
        if self._waiting:
            self._waiting.unpark_all()

    def much(self) -> None:
        """There is much, or too much."""
        self.was_near = True
        if self.stats.held_bytes > self.stats.max_held_bytes:
            self._above.set()


def _keep() -> None:
    """Give nothing back."""


class Share:
    """What one connection holds."""

    __slots__ = ("_most", "_of", "held", "holder", "unfinished")

    def __init__(self, of: Held, holder: Holder | None, most: int) -> None:
        self._of = of
        self._most = most
        self.holder = holder
        self.held = 0
        """Bytes."""
        self.unfinished = 0
        """Of these, the beginnings of messages that have not come whole."""

    def add(self, count: int) -> None:
        """Count bytes that are held from now on."""
        of = self._of
        if not self.held:
            of.shares.add(self)
        self.held += count
        stats = of.stats
        stats.held_bytes += count
        if stats.held_bytes >= of.near:
            of.much()

    def take(self, count: int) -> None:
        """Count bytes that are not held any more."""
        of = self._of
        self.held -= count
        of.stats.held_bytes -= count
        if not self.held:
            of.shares.discard(self)
        of.changed()

    def change(self, before: int, count: int) -> None:
        """Count ``count`` bytes in place of ``before``."""
        change = count - before
        if change > 0:
            self.add(change)
        elif change:
            self.take(-change)

    def change_unfinished(self, before: int, count: int) -> None:
        """The same of a message that is not whole yet, of which ``count`` bytes have come by now."""
        self.unfinished += count - before
        self.change(before, count)

    @property
    def full(self) -> bool:
        """Whether no more should be read for it."""
        held = self.held
        if held <= FREE:
            return False
        # Half a message alone goes on: nothing else could ever make it less.
        if held >= self._most and held > self.unfinished:
            return True
        return self._of.is_near and not self._of.may_go_on(self)

    async def room(self) -> None:
        """Wait until more may be read, or it is its turn."""
        self._of.stats.held_back_total += 1
        while self.full:
            await self._of.wait()


def uncounted() -> Share:
    """Return the share of a connection that nobody counts: in tests, and the admin's."""
    return Held().share(None)
