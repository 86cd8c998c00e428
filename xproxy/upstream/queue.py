"""Requests that wait at one endpoint: for a connection, for a place on one, or for leave to open one.

Rules of this file:

* The order is by priority, the highest first, and among equals by arrival. Who has to wait again keeps its turn.
* Who is handed something has it: it left the queue at that moment, and no cancellation takes it away any more. It
  uses it, or hands it on, before anything else runs.
* Who gives up leaves at once, and its place is free at once: cancelled by whoever knows the reason, as for a client
  that went away or a deadline that passed. Nothing is handed to a request whose deadline has passed.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from operator import attrgetter
from typing import Final, Generic, TypeVar, cast

import attrs
import trio
from outcome import Error, Outcome, Value

from xproxy.model.errors import StreamError
from xproxy.stream.exchange import Request
from xproxy.upstream.breaker import Breaker

T = TypeVar("T")


@attrs.define(eq=False)
class Waiter:
    """A request that waits, or has waited."""

    request: Request
    turn: tuple[int, int] | None = None
    """What the queue is in order of; None: it has not waited yet."""
    task: trio.lowlevel.Task | None = None
    """None: it is not in the queue."""


_TURN: Final = attrgetter("turn")


class Queue(Generic[T]):
    """Bounded by the circuit breaker's ``max_pending_requests``, together with the cluster's other queues."""

    __slots__ = ("_arrivals", "_breaker", "waiting")

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker
        self._arrivals = 0
        self.waiting: list[Waiter] = []
        """Those in the queue, in order: for a look. It is always the same list."""

    def admit(self, waiter: Waiter) -> None:
        """Give a request its turn, though it need not wait yet: if it must, it has a place in the queue."""
        self._arrivals += 1
        waiter.turn = (-waiter.request.record.priority, self._arrivals)

    async def wait(self, waiter: Waiter) -> T:
        """Wait in turn; return what was handed. Always a checkpoint.

        Raises Overflow if there is no place in the queue, and what ``fail`` was given.
        """
        thresholds = self._breaker.of(waiter.request)
        if waiter.turn is None:
            thresholds.check_pending(waiter.request)
            self.admit(waiter)
        insort(self.waiting, waiter, key=_TURN)
        thresholds.count_pending(1)

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            self._remove(waiter)
            return trio.lowlevel.Abort.SUCCEEDED

        waiter.task = trio.lowlevel.current_task()
        # cast: rescheduled by ``hand``, with what it was given
        return cast("T", await trio.lowlevel.wait_task_rescheduled(abort))

    def first(self) -> Waiter | None:
        """Return whose turn it is; None: nobody waits.

        Those whose deadline has passed leave. Their streams end them in this round of the loop, as they promise.
        """
        waiting = self.waiting
        while waiting:
            waiter = waiting[0]
            if waiter.request.stream.deadline > trio.current_time():
                return waiter
            self._remove(waiter)
        return None

    def hand(self, waiter: Waiter, given: T) -> None:
        """Give one of those who wait what it goes on with. Never blocks."""
        self._wake(waiter, Value(given))

    def fail(self, error: StreamError) -> None:
        """Tell all who wait that there is nothing to wait for."""
        while self.waiting:
            self._wake(self.waiting[0], Error(error.again()))

    def _wake(self, waiter: Waiter, outcome: Outcome[T]) -> None:
        task = waiter.task
        assert task is not None  # it is in the queue
        self._remove(waiter)
        trio.lowlevel.reschedule(task, outcome)

    def _remove(self, waiter: Waiter) -> None:
        # Idempotent: who was passed over for its deadline is cancelled yet.
        if waiter.task is not None:
            waiter.task = None
            waiting = self.waiting
            del waiting[bisect_left(waiting, waiter.turn, key=_TURN)]
            self._breaker.of(waiter.request).count_pending(-1)
