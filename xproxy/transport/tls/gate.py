"""How much of the process handshakes may take: while one computes, up to a millisecond, nothing else runs.

Two bounds. A step of a handshake waits for the next tick once those of this tick have taken their share of time; so
a flood of handshakes leaves the other connections their turn. And only so many handshakes are under way at once;
beyond that they queue, a slow one gives way to those, and beyond a queue of the same length they are refused.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Final

import attrs
import trio
from outcome import Value

from xproxy.transport.tls.alerts import Alert, TlsError

MAX_HANDSHAKES: Final = 1024
"""Handshakes under way at once; as many more may wait. Each holds about 60 KiB."""
PATIENCE_SECONDS: Final = 1.0
"""How long a handshake may take when others wait for its place: many round trips, also over a satellite."""
SECONDS_A_TICK: Final = 0.002
"""Computing time of a listener's handshakes in one tick, before other connections have their turn."""


class TooManyHandshakes(TlsError):
    """The queue for a place is full, or the place was needed for another."""


@attrs.define(eq=False)
class HandshakeGate:
    """See the module. Each listener and each cluster has its own."""

    max_concurrent: int = MAX_HANDSHAKES
    """Handshakes under way at once, and how many more may wait."""
    seconds_a_tick: float = SECONDS_A_TICK
    """Computing time in one tick; the last step may go beyond it."""
    patience: float = PATIENCE_SECONDS
    """Seconds after which the oldest may lose its place to one that waits."""
    under_way: int = attrs.field(default=0, init=False)
    """Handshakes that have a place now."""
    waiting: int = attrs.field(default=0, init=False)
    """Handshakes that wait for one now."""
    refused: int = attrs.field(default=0, init=False)
    """Handshakes that found the queue full, so far."""
    evicted: int = attrs.field(default=0, init=False)
    """Handshakes that lost their place, so far."""
    delayed: int = attrs.field(default=0, init=False)
    """Steps that had to wait for a later tick, so far."""
    _places: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot, init=False)
    _holders: dict[trio.CancelScope, float] = attrs.field(factory=dict, init=False)  # oldest first
    _queue: OrderedDict[trio.lowlevel.Task, None] = attrs.field(factory=OrderedDict, init=False)
    _spent: float = attrs.field(default=0.0, init=False)
    _cost: float = attrs.field(default=0.0005, init=False)
    _ticking: bool = attrs.field(default=False, init=False)

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold one of the places; wait for it in turn.

        Raises TooManyHandshakes if too many wait already, and in a holder that had to give its place up.
        """
        if self.under_way >= self.max_concurrent:
            if self.waiting >= self.max_concurrent:
                self.refused += 1
                raise TooManyHandshakes("too many handshakes under way", Alert.INTERNAL_ERROR)
            self._make_room()
            self.waiting += 1
            try:
                await self._places.park()  # whoever leaves gives its place to us
            finally:
                self.waiting -= 1
        else:
            self.under_way += 1
        with trio.CancelScope() as scope:
            self._holders[scope] = trio.current_time()
            try:
                yield
            finally:
                self._holders.pop(scope, None)
                if self._places:
                    self._places.unpark()
                else:
                    self.under_way -= 1
        if scope.cancelled_caught:
            raise TooManyHandshakes("too slow while others wait", Alert.INTERNAL_ERROR)

    def _make_room(self) -> None:
        # Who begins handshakes and never ends them must not keep the others out until the deadline.
        scope, since = next(iter(self._holders.items()), (None, 0.0))
        if scope is not None and trio.current_time() - since >= self.patience:
            del self._holders[scope]
            self.evicted += 1
            scope.cancel()

    async def turn(self) -> None:
        """Wait until a step may be computed, in turn. A checkpoint only if this tick's share is used up."""
        if not self._ticking and self._spent < self.seconds_a_tick:
            return
        self.delayed += 1
        if self._ticking and await self._wait():
            return
        # Whoever comes first awaits the next tick, lets some of the others go on, and leaves its role to one of them.
        self._ticking = True
        try:
            await trio.lowlevel.checkpoint()
        finally:
            self._next()

    def spend(self, seconds: float) -> None:
        """Count the computing time of a step."""
        self._spent += seconds
        self._cost += (seconds - self._cost) / 16

    def _next(self) -> None:
        self._spent = 0.0
        queue = self._queue
        others = int(self.seconds_a_tick / max(self._cost, 1e-5)) - 1
        while queue and others > 0:
            others -= 1
            trio.lowlevel.reschedule(queue.popitem(last=False)[0], Value(True))
        if queue:
            trio.lowlevel.reschedule(queue.popitem(last=False)[0], Value(False))
        else:
            self._ticking = False

    async def _wait(self) -> bool:
        # True: go on; False: await the next tick.
        task = trio.lowlevel.current_task()
        self._queue[task] = None

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            del self._queue[task]
            return trio.lowlevel.Abort.SUCCEEDED

        go_on: bool = await trio.lowlevel.wait_task_rescheduled(abort)
        return go_on
