"""Hedge: where an answer is late, ask another endpoint as well; the first acceptable answer counts.

The first try is not given up meanwhile. Whoever loses is cancelled, which resets its stream, or is closed. Each try
but the first needs a permit of the cluster, as a retry does: a slow cluster is not asked twice as much by everybody.
(idea: envoy:source/common/router/router.cc, ``hedge_on_per_try_timeout``; Dean, Barroso: The Tail at Scale)
"""

from __future__ import annotations

from typing import Final

import attrs
import trio
from attrs.validators import ge, gt, le

from xproxy.model.errors import StreamError
from xproxy.model.limits import Duration
from xproxy.model.status import SERVER_FAULTS
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Handler, Request, Response
from xproxy.stream.record import Attempted, RetryPermits

MOST_HEDGES: Final = 10
"""Further tries of one request, at most."""


@attrs.define(eq=False)
class HedgeStats:
    """Counters of all that one filter has hedged."""

    hedged: int = 0
    """Further tries that were begun."""
    won: int = 0
    """Requests answered by one of them."""
    lost: int = 0
    """Tries that were given up, as another had won."""
    overflow: int = 0
    """Further tries for which there was no permit."""


@attrs.define(kw_only=True)
class Hedge:
    """Begin another try when one has no response head within ``after``, without giving up the first.

    Acceptable is any answer whose neutral status is not a fault of the server; if there is none, the last outcome
    goes on. Only requests whose body came whole are hedged: nothing is kept for it.
    """

    after: Duration = attrs.field(validator=gt(Duration(0.0)))
    """How late an answer must be."""
    hedges: int = attrs.field(default=1, validator=[ge(1), le(MOST_HEDGES)])
    """Further tries at most, each ``after`` the one before."""

    _stats: HedgeStats = attrs.field(factory=HedgeStats, init=False, eq=False, repr=False)

    def statistics(self) -> tuple[str, str, HedgeStats]:
        """See SupportsStatistics."""
        return "hedge", f"{self.after:g}s", self._stats

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        """Raises StreamError."""
        if type(request.body) is not BytesBody:
            return await call_next(request)
        race = _Race(request, call_next, self._stats)
        try:
            async with trio.open_nursery() as nursery:
                race.begin(nursery)
                for _ in range(self.hedges):
                    with trio.move_on_after(self.after):
                        await race.decided.wait()
                    if race.decided.is_set() or not race.may_hedge():
                        break
                    race.begin(nursery)
                await race.decided.wait()
                nursery.cancel_scope.cancel()
            return race.result()
        finally:
            await race.close()


@attrs.frozen(eq=False)
class _Late:
    """A try under way, for who chooses the endpoint of the next: it is to be another one."""

    of: Attempted

    endpoint = property(lambda self: self.of.endpoint)
    previous = property(lambda self: self.of.previous)
    began = property(lambda self: self.of.began)
    answered = property(lambda self: self.of.answered)
    ended = property(lambda self: self.of.ended)
    how = property(lambda self: self.of.how)
    permits = property(lambda self: self.of.permits)
    failed: bool = True

    async def aclose(self) -> None:
        """See Attempted."""
        await self.of.aclose()


@attrs.define(eq=False)
class _Try:
    request: Request
    permits: RetryPermits | None = None
    """To be given back."""
    outcome: Response | StreamError | None = None
    """None: it is under way, or was given up."""


@attrs.define(eq=False)
class _Race:
    """The tries of one request."""

    request: Request
    call_next: Handler
    stats: HedgeStats
    tries: list[_Try] = attrs.field(factory=list)
    running: int = 0
    decided: trio.Event = attrs.field(factory=trio.Event)
    """There is an acceptable answer, or none is to come."""
    winner: _Try | None = None
    taken: RetryPermits | None = None
    """A permit for the try that is about to begin."""

    def may_hedge(self) -> bool:
        """Take a permit of the cluster that the last try went to; where nobody counts, none is needed."""
        permits = self.tries[-1].request.record.permits
        if permits is None or permits.acquire(self.request.connection.id):
            self.taken = permits
            return True
        self.stats.overflow += 1
        return False

    def begin(self, nursery: trio.Nursery) -> None:
        """Begin a try."""
        fork = self.request.fork()
        one = _Try(fork, self.taken)
        self.taken = None
        if self.tries:
            self.stats.hedged += 1
            before = self.tries[-1].request.record.attempt
            fork.record.attempt = None if before is None else _Late(before)
        self.tries.append(one)
        self.running += 1
        nursery.start_soon(self._run, one)

    async def _run(self, one: _Try) -> None:
        try:
            one.outcome = await self.call_next(one.request)
        except StreamError as error:
            one.outcome = error.again()
        finally:
            self.running -= 1
        outcome = one.outcome
        good = isinstance(outcome, Response) and outcome.head.status not in SERVER_FAULTS
        if self.winner is None and (good or not self.running):
            self.winner = one
            self.decided.set()

    def result(self) -> Response:
        """Return the winner's answer. Raises its StreamError."""
        winner = self.winner
        assert winner is not None
        assert winner.outcome is not None
        self.request.adopt(winner.request)
        self.stats.won += winner is not self.tries[0]
        self.stats.lost += sum(one.outcome is None for one in self.tries)
        outcome, winner.outcome = winner.outcome, None
        if isinstance(outcome, StreamError):
            raise outcome
        return outcome

    async def close(self) -> None:
        """Close what nobody gets, and give permits back."""
        for one in self.tries:
            if one.permits is not None:
                one.permits.release(self.request.connection.id)
        for one in self.tries:
            if isinstance(one.outcome, Response):
                await one.outcome.aclose()
