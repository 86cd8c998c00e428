"""Whose turn it is: the processor's time, shared out among connections that use much of it.

A connection that is quick costs the others nothing and is never kept waiting: it reads, is served, and reads again.
One whose last turns took long is *costly* for a while. Costly connections wait in a lane for their turns, of which
about ``SLICE`` seconds' worth is given at a time, when nobody else has anything to do, or after ``STARVED`` seconds
at the latest. Whoever has used less goes first, so that one connection gets as much as each other one, however
expensive its bytes are; who comes later begins with what the others have used by then. A costly connection that is
alone hardly waits at all.

Connections to upstreams have a lane of their own and take turns with the other one: what one of them brings belongs
to many clients, and an answer ends work where a request begins it.

Time is the wall's, as it is quick to look at: nothing here waits within a turn, so it is the processor's but for what
the machine takes away. On a busy machine that is much, and any connection may be the one whose turn it happens in;
so a turn that looks long is measured again by what the processor did (``spent``).
"""

from __future__ import annotations

import heapq
import math
import resource
import time
from collections.abc import Callable
from typing import Final

import trio

SLICE: Final = 0.001
"""Seconds of work that a costly connection should get in one turn, and the lane at a time."""
ALONE: Final = 0.008
"""The same, and that of a round of the loop, where nobody quick had to wait lately: to read less at a time makes more
work for all."""
ROUND: Final = 0.002
"""Seconds of costly turns in a round of the loop, where somebody quick had to wait lately."""
LIGHT: Final = 0.0002
"""Seconds that a turn may take without being counted: several requests of any protocol."""
SMALL: Final = 1460
"""Bytes of a whole answer of HTTP, read at once, whose work need not be timed: what a packet has room for."""
GRACE: Final = 0.004
"""Seconds since the loop last looked at its sockets in which turns are not counted, and nobody has waited: what comes
new in the meantime would not be served much sooner by any order."""
TINY: Final = 512
"""Bytes of a whole read of HTTP whose work need not be timed: the most expensive of them do not take ``LIGHT``."""
STARVED: Final = 0.005
"""Seconds after which the lane moves on even if others always have something to do."""
REQUEST: Final = 0.00003
"""Seconds that a request is taken to cost beyond reading it, where another task serves it: a cheap one."""
FORGIVEN: Final = 0.002
"""Seconds of work that are forgotten each second: a connection that is cheap again is treated so after a while …"""
MOST_DEBT: Final = 0.02
"""… of ten seconds at most. Likewise nobody is further behind those who wait than this."""
_LOOK: Final = 0.005
"""Seconds at least between two looks at the processor's clock in quick rounds: it is a system call, and this is less
than what ``INTERRUPTED`` allows."""
INTERRUPTED: Final = 0.01
"""Seconds of the processor's work that a turn must have taken to count although the machine interrupted it, once …"""
_CLOSELY: Final = 1.0
"""… in so many seconds: from then on the processor's clock is looked at in each round, and all can be told apart."""
_PRESSED: Final = 1.0
"""Seconds for which costly connections wait in turn after somebody quick had to wait for them …"""
_PRESSED_BY_NEW: Final = 0.1
"""… and after somebody who has just come, and of whom nothing is known."""
_TIDY: Final = 64
"""Dead entries tolerated in a lane beyond as many as are alive."""


class Account:
    """What one connection has used lately. It has none while all its turns are light."""

    __slots__ = ("at", "cost", "debt", "entry", "task", "upstream", "used")

    def __init__(self, now: float, *, upstream: bool) -> None:
        self.upstream = upstream
        self.debt = 0.0
        """Seconds of work not yet forgiven at ``at``."""
        self.at = now
        self.used = 0.0
        """Seconds, on the lane's own clock: less goes first."""
        self.cost = 0.0
        """Seconds of its last turn: what the next is expected to take."""
        self.task: trio.lowlevel.Task | None = None
        """Who waits for its turn."""
        self.entry = 0
        """The number of its valid entry in a lane; all others are dead."""


class _Lane:
    """Those who wait, the least used first."""

    __slots__ = ("_before", "_dead", "_heap", "_number", "virtual", "waiting")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Account]] = []
        self._number = 0
        self._dead = 0
        self.waiting = 0
        self.virtual = 0.0
        """What those who were served last had used, the least of them: where newcomers begin."""
        self._before = math.inf  # what the first who were taken will have used when they come back

    def add(self, account: Account) -> None:
        account.used = max(account.used, self.virtual)
        self._number += 1
        account.entry = self._number
        heapq.heappush(self._heap, (account.used, self._number, account))
        self.waiting += 1

    def remove(self, account: Account) -> None:
        account.entry = 0
        self.waiting -= 1
        self._dead += 1
        if self._dead > self.waiting + _TIDY:
            self._heap = [entry for entry in self._heap if entry[2].entry == entry[1]]
            heapq.heapify(self._heap)
            self._dead = 0

    def take(self) -> Account | None:
        """Return whose turn it is; None: nobody's before those who were just taken come back."""
        heap = self._heap
        while heap and heap[0][0] <= self._before:
            used, number, account = heapq.heappop(heap)
            if account.entry != number:
                self._dead -= 1
                continue
            account.entry = 0
            self.waiting -= 1
            if self._before == math.inf:
                self.virtual = used
            self._before = min(self._before, used + max(account.cost, LIGHT))
            return account
        return None

    def taken(self) -> None:
        """Those who were taken have their turns now."""
        self._before = math.inf


def _switches() -> int:
    # How often the kernel took the processor away from this thread.
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw


class Turns:
    """All costly connections of a process. While ``run`` does not run, nobody waits."""

    __slots__ = (
        "_closely_until",
        "_granted_at",
        "_idle",
        "_keeper",
        "_lanes",
        "_measured_at",
        "_switched",
        "_switches",
        "_took",
        "_upstream_next",
        "_work",
        "_worked",
        "busy",
        "clock",
        "free_at",
        "grace",
        "looked_at",
        "pressed_until",
        "round",
        "running",
    )

    def __init__(
        self,
        idle: Callable[[], bool],
        clock: Callable[[], float] = time.perf_counter,
        work: Callable[[], float] = time.thread_time,
        switches: Callable[[], int] = _switches,
        grace: float = GRACE,
    ) -> None:
        """``idle`` says whether nobody else has anything to do at the moment.

        ``clock``: seconds; ``work``: seconds of the processor; ``switches``: how often the kernel took it away.

        ``grace``: see ``GRACE``.
        """
        self.grace = grace
        self.round = ROUND
        self.clock = clock
        self._work = work
        self._switches = switches
        self._upstream_next = True
        self._idle = idle
        self._lanes = (_Lane(), _Lane())
        self._keeper: trio.lowlevel.Task | None = None
        self.running = False
        """Whether turns are given: else nobody waits."""
        self.busy = False
        """Whether anybody was costly, and nobody has asked since whether that is over: see ``calm``."""
        self.free_at = 0.0
        """Until when costly turns have had more than half of the time."""
        self.looked_at = 0.0
        """When the loop last looked at its sockets; see ``GRACE``."""
        self._granted_at = 0.0
        self.pressed_until = 0.0
        """Until when costly ones wait in turn: see ``press``."""
        self._took = 0.0  # the last costly turn
        self._closely_until = 0.0
        self._measured_at = 0.0
        self._worked = work()
        self._switched = switches()

    def tick(self) -> None:
        """A round of the loop begins: remember what the processor has done by now, once in ``_LOOK`` seconds."""
        now = self.looked_at = self.clock()
        if self.busy or now - self._measured_at > _LOOK or now < self._closely_until:
            self._measured_at = now
            self._worked = self._work()

    def spent(self, seconds: float) -> float:
        """Return how much of a turn that took so long is its own: ``LIGHT`` where the machine took the rest away.

        What cannot be told apart counts for the connection, unless it was much: who is costly is so again.
        """
        worked, switched = self._work(), self._switches()
        work = worked - self._worked
        interrupted = switched != self._switched
        self._worked, self._switched = worked, switched
        # Where costly ones are about, the processor was looked at in this very round: it can be told apart then.
        if interrupted and work < INTERRUPTED and not self.busy:
            now = self.clock()
            if now >= self._closely_until:
                self._closely_until = now + _CLOSELY
                return LIGHT
        return min(seconds, work)

    def __len__(self) -> int:
        """Return how many wait."""
        return self._lanes[0].waiting + self._lanes[1].waiting

    def account(self, *, upstream: bool) -> Account:
        """Open an account. It begins with what the others have used by now, and no sooner comes what it will use."""
        account = Account(self.clock(), upstream=upstream)
        account.used = self._lanes[upstream].virtual
        return account

    def newcomer(self, *, upstream: bool) -> Account:
        """Open an account for one turn of somebody of whom nothing is known.

        It pays for the turn in advance: were it free, as many as always come anew would come before everybody else.
        """
        account = self.account(upstream=upstream)
        account.used += SLICE
        account.cost = SLICE
        return account

    def charge(self, account: Account, seconds: float) -> None:
        """Note that a turn has taken so long."""
        now = self.clock()
        left = max(account.debt - (now - account.at) * FORGIVEN, 0.0)
        account.debt = min(left + seconds, MOST_DEBT)
        account.at = now
        account.cost = self._took = seconds
        # What it had while nobody waited was nobody else's: it is not to wait until all have had as much.
        most = self._lanes[account.upstream].virtual + MOST_DEBT
        account.used = min(account.used + seconds, most)
        self.free_at = max(self.free_at, now + min(seconds, MOST_DEBT))
        self.busy = True

    def calm(self) -> bool:
        """Whether costly ones have had less than half of the time lately. ``busy`` says so until the next."""
        if self.clock() < self.free_at:
            return False
        self.busy = False
        return True

    def forgiven(self, account: Account) -> bool:
        """Whether the connection counts as quick again."""
        return (self.clock() - account.at) * FORGIVEN >= account.debt

    def crowded(self) -> bool:
        """Whether a costly connection must wait: others do, or costly turns have made this round of the loop long."""
        if not self.running:
            return False
        if len(self):
            return True
        now = self.clock()
        return now < self.free_at and self.late(now)

    def late(self, now: float) -> bool:
        """Whether this round is so long that the loop must look at its sockets before more costly turns."""
        return now - self.looked_at >= (self.round if now < self.pressed_until else ALONE)

    def limit(self) -> float:
        """Return how many seconds a costly connection's turn should take, and all in a row."""
        return SLICE if self.pressed else ALONE

    def press(self, *, new: bool) -> None:
        """Somebody quick comes to read while costly ones are about: from now on these wait, if it had to, or they do.

        As long as all who are there are costly, and equals, to cut their work short would only make it more. ``new``:
        it has not read yet, and may be costly itself.
        """
        now = self.clock()
        waited = max(
            now - self.looked_at, self._took
        )  # in this round, or in the kernel for the last turn
        if waited > self.grace or now < self.pressed_until:
            self.pressed_until = max(
                self.pressed_until, now + (_PRESSED_BY_NEW if new else _PRESSED)
            )

    @property
    def pressed(self) -> bool:
        """Whether costly ones wait in turn at the moment."""
        return self.clock() < self.pressed_until

    async def wait(self, account: Account) -> None:
        """Wait for a turn. Cancelling gives it up."""
        self._lanes[account.upstream].add(account)
        account.task = trio.lowlevel.current_task()
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            trio.lowlevel.reschedule(keeper)

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            account.task = None
            self._lanes[account.upstream].remove(account)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def release(self, account: Account) -> None:
        """Let whoever waits go on at once: there is nothing to wait for any more. Idempotent."""
        task, account.task = account.task, None
        if task is not None:
            self._lanes[account.upstream].remove(account)
            trio.lowlevel.reschedule(task)

    async def run(self) -> None:
        """Give turns for ever. When it ends, all go on."""
        self.running = True
        try:
            while True:
                if not len(self):
                    self._keeper = trio.lowlevel.current_task()
                    await trio.lowlevel.wait_task_rescheduled(self._abort)
                elif self._idle() or self.clock() - self._granted_at >= STARVED:
                    self.grant()
                    # Two rounds: what a turn gave others to do comes before the next one.
                    await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
        finally:
            self.running = False
            self._keeper = None
            while len(self):
                self.grant()

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._keeper = None
        return trio.lowlevel.Abort.SUCCEEDED

    def grant(self) -> None:
        """Let go on who waits, least used first: ``limit()`` seconds' worth, and one in any case."""
        self._granted_at = self.clock()
        left = self.limit()
        while left > 0 and (account := self._next()) is not None:
            left -= max(account.cost, LIGHT)
            task, account.task = account.task, None
            assert task is not None  # a valid entry's
            trio.lowlevel.reschedule(task)
        for lane in self._lanes:
            lane.taken()

    def _next(self) -> Account | None:
        chosen = self._lanes[self._upstream_next]
        other = self._lanes[not self._upstream_next]
        self._upstream_next = not self._upstream_next
        return chosen.take() or other.take()
