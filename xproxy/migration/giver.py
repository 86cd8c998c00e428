"""The old process in a takeover: it offers its connections over a channel until none is left, and then ends.

What happens when is ``giving.py``'s to say; here it is done.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final, TypeAlias

import attrs
import trio

from xproxy.connection.shared.multiplexed import Multiplexed
from xproxy.connection.standing import Standing
from xproxy.migration import counts as counting
from xproxy.migration import giving
from xproxy.migration.carry import collect, reason
from xproxy.migration.faults import fault
from xproxy.migration.giving import Giving, Timer
from xproxy.migration.greeting import greet
from xproxy.migration.messages import (
    Carry,
    Counts,
    Done,
    Hello,
    Message,
    Offer,
    Stopped,
    Withdraw,
    pack,
    unpack,
)
from xproxy.migration.movable import (
    Movable,
    MovableDownstream,
    MovableUpstream,
    name_of,
    relaying,
)
from xproxy.migration.tally import Tally, most
from xproxy.migration.undumpable import undumpable
from xproxy.observe.takeover import Stage, TakeoverStatus
from xproxy.proxy.adopting import Codecs
from xproxy.proxy.connection import Connection, SupportsSeek
from xproxy.proxy.runtime import Runtime
from xproxy.transport.channel import Channel, NotSent, Received, Unheard
from xproxy.upstream.moving import settings_of

_logger = logging.getLogger(__name__)

Report: TypeAlias = Callable[[Mapping[str, object]], None]
"""Tells whoever started the takeover how it goes."""

_LOOK_AGAIN: Final = 0.1
"""Seconds until what could not move is looked at again, where its driver does not tell …"""
_SELDOM: Final = 1.0
"""… and where it does."""
_IDLE_FIRST: Final = 1.0
"""Seconds for which one that could only move with streams in flight is waited for to be idle."""
_SECOND: Final = 1.0
"""Between two reports, and two COUNTS."""
_LAST_WORDS: Final = 5.0
"""Seconds that those have to end which were cut off."""
_WELL: Final = (giving.State.FINISHED, giving.State.FOLLOWED)
_OFFERING: Final = (giving.State.GIVING, giving.State.PROVING, giving.State.TAILING)
_MOVABLE: Final = frozenset({Standing.IDLE, Standing.RELAY, Standing.FLOWING})


@attrs.frozen(kw_only=True)
class Pace:
    """How a takeover goes."""

    patience: float = 900.0
    """Seconds for which what cannot move may go on here (``takeover.patience``); 0: for ever."""
    canary: float = 1.0
    """Seconds for which the new process must serve the first connections before it gets the others."""
    rest: float = 3.0
    """A batch is followed by so many times its processor time of rest, as long as there are clients here: at most a
    quarter of a core goes into giving."""
    canaries: int = giving.CANARIES
    window: int = giving.WINDOW


DEFAULT_PACE: Final = Pace()


@attrs.frozen(kw_only=True)
class Outcome:
    """How a takeover ended, for the old process."""

    gone: bool
    """Everything has: the runtime ends."""
    why: str
    """If not; empty also where what is left goes to a process that is newer yet."""
    tally: Tally


async def give(
    runtime: Runtime,
    sock: socket.socket,
    report: Report,
    *,
    pace: Pace = DEFAULT_PACE,
    rehearsal: bool = False,
) -> Outcome:
    """Give all connections to the process at the other end of ``sock``, a SEQPACKET socket that is closed at the end.

    Returns when everything has gone: then ``runtime`` ends, too; or when the takeover was withdrawn, by either side:
    then it serves and accepts as before what was not taken. Cancelled, it withdraws.

    It may be called again with another channel, also while it tails: then what is left goes there (a process that is
    newer yet), and the first call returns. One that has given before accepts nobody, however that ends.

    Where its listening sockets come from must say, by ``release``, whether another process has them, too.

    ``rehearsal``: nothing moves; the other side only tries whether it could go on with what would be offered.
    """
    while not rehearsal and runtime.step_aside is not None:
        await runtime.step_aside()  # several may wait for their turn
    giver = _Giver(runtime, Channel(sock), report, pace, rehearsal=rehearsal)
    if rehearsal:
        with undumpable():
            return await giver.run()
    runtime.step_aside = step_aside = giver.step_aside
    try:
        with undumpable():
            return await giver.run()
    finally:
        giver.ended.set()
        if runtime.step_aside is step_aside:
            runtime.step_aside = None


@attrs.define(eq=False)
class _Offered:
    item: Movable
    state: bytes
    sockets: list[socket.socket]
    cut: float
    """CLOCK_MONOTONIC."""


class _Giver:
    def __init__(
        self,
        runtime: Runtime,
        channel: Channel,
        report: Report,
        pace: Pace,
        *,
        rehearsal: bool,
    ) -> None:
        self._runtime = runtime
        self._channel = channel
        self._report = report
        self._pace = pace
        self._rehearsal = rehearsal
        self._codecs = Codecs(runtime.registry)
        # What is only tried is told to nobody, and shown nowhere.
        self._counts = counting.Counts(runtime) if rehearsal else counting.teller(runtime)
        self._status = TakeoverStatus() if rehearsal else runtime.takeover
        self._machine = Giving(
            greet(runtime, rehearsal=rehearsal),
            canary=0.0 if rehearsal else pace.canary,
            canaries=pace.canaries,
            window=pace.window,
            tails=not runtime.accepting.is_set(),
        )
        self._tally = Tally()
        self._offers: dict[int, _Offered] = {}
        self._to_send: deque[tuple[Message, bytes | None] | None] = deque()
        # None: stop receiving.
        self._wanted = trio.Event()
        # Set when there is something to send …
        self._changed = trio.Event()
        # … and when something was heard.
        self._deadlines: dict[Timer, float] = {}
        self._rearmed = trio.Event()
        self._looked_until = -math.inf
        # Until when whoever watches them sleeps (trio clock).
        self._waiting: dict[int, MovableDownstream] = {}
        # By the identity of their connections: those that have neither gone nor are kept.
        self._kept: dict[int, MovableDownstream] = {}
        self._listed: set[int] = set()
        # Ids of all connections that were ever among these.
        self._whole = 0
        # Clients' connections at the beginning.
        self._ready: deque[MovableDownstream] = deque()
        self._later: list[tuple[float, int, MovableDownstream]] = []
        # A heap: when to look at it again (trio clock).
        self._turns = itertools.count()
        self._given: Counter[str] = Counter()
        # Upstream connections, by cluster.
        self._unwanted: set[str] = set()
        # Clusters whose connections the other side does not take.
        self._unwritten: deque[tuple[MovableDownstream, str]] = deque()
        # What could not be written down when its driver asked, and why.
        self._over: giving.Over | None = None
        self._rest_until = 0.0
        self._given_by = math.inf
        # Until when those are waited for that may be able to go soon (trio clock); infinite: it has not come to that.
        self._tail_until = math.inf
        self._was_cut = False
        self._aside = False
        # A process that is newer yet is to get the rest.
        self.ended = trio.Event()
        """Set when it is over."""

    # ---- the whole of it

    async def step_aside(self) -> None:
        """Let a process that is newer yet have what is left. Returns when nothing is offered here any more."""
        self._aside = True
        self._changed.set()
        await self.ended.wait()

    async def run(self) -> Outcome:
        fault("give.begin")
        self._status.begin(gives=True)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send_all)
                nursery.start_soon(self._watch_timers)
                nursery.start_soon(self._receive_all)
                nursery.start_soon(self._keep_told)
                self._do(self._machine.begin())
                await self._offer_all()
                nursery.cancel_scope.cancel()
        finally:
            await self._settle()
            self._channel.close()
        outcome = self._concluded()
        if outcome.gone or self._rehearsal or not self._machine.tails:
            return outcome
        return await self._tail_alone(outcome)

    async def _tail_alone(self, outcome: Outcome) -> Outcome:
        # Nobody takes what is left: it ends here, or goes to another process that comes.
        until = self._patient_until()
        tell_at = 0.0
        while any(active.connections for active in self._runtime.every_listener):
            if self._aside:
                return outcome
            now = trio.current_time()
            if now >= until:
                self._cut_off()
                break
            if now >= tell_at:
                tell_at = now + _SECOND
                self._report({"step": "left", "serving": self._serving()})
            self._changed = trio.Event()
            with trio.move_on_after(_LOOK_AGAIN):
                await self._changed.wait()
        self._runtime.stop()  # whoever has the sockets serves what waits in their queues
        return attrs.evolve(outcome, gone=True)

    async def _settle(self) -> None:
        # Broken off from outside: withdraw. Only where the other side can be told nothing, as it stands still with
        # its queue full, nobody can know whose an offer is: then it is not ours.
        with trio.CancelScope(shield=True), trio.move_on_after(giving.STALL):
            if not self._machine.over:
                self._do(self._machine.withdraw("it was broken off"))
                await self._send_what_waits()
                await self._receive_all()
        while self._offers:
            _, offered = self._offers.popitem()
            offered.item.leave()
        for item in self._waiting.values():
            if item.seeking:
                item.connection.seek(None)

    def _concluded(self) -> Outcome:
        assert self._over is not None  # the machine has ended
        why = self._over.why
        if self._rehearsal:
            why = why or "; ".join(sorted(most(self._tally.refused)))
        state = "withdrawn" if why else "followed" if self._over.rest else "gone"
        if self._rehearsal:
            state = "rehearsed"
        self._report({"step": state, "why": why, **self._tally.plain()})
        _logger.info("takeover: %s%s; %s", state, f": {why}" if why else "", self._tally)
        self._status.end(why)
        if state == "withdrawn" and not self._machine.tails:
            # The other process ends what it has taken, and itself. One that came later goes on, and another one has
            # heard what was told before: see migration.counts.
            self._counts.lost()
        gone = state == "gone"
        if gone:
            self._runtime.stop()  # whoever has the sockets serves what waits in their queues
        return Outcome(gone=gone, why=why, tally=self._tally)

    # ---- what the machine wants

    def _do(self, actions: list[giving.Action]) -> None:
        for action in actions:
            match action:
                case giving.Send(message=message):
                    self._say(message)
                case giving.Describe():
                    self._describe()
                case giving.Pause():
                    self._runtime.hold()
                    fault("give.paused")
                    self._say(Stopped(last_id=self._runtime.ids.last))
                    self._status.enter(Stage.GIVING)
                    self._count()
                    self._report({"step": "giving"})
                case giving.Resume():
                    self._runtime.tails_since = None
                    self._runtime.accept()
                case giving.Leave(number=number):
                    self._left(number)
                case giving.Thaw(number=number):
                    self._back(number)
                case giving.Keep(number=number, why=why, for_ever=for_ever):
                    self._refused(number, why, for_ever=for_ever)
                case giving.StopReceiving():
                    self._to_send.append(None)
                    self._wanted.set()
                case giving.Arm(timer=timer, seconds=seconds):
                    due = self._deadlines[timer] = trio.current_time() + seconds
                    # Each offer puts the same time off: whoever watches need not wake for that.
                    if due < self._looked_until:
                        self._rearmed.set()
                case giving.Disarm(timer=timer):
                    self._deadlines.pop(timer, None)
                case giving.Over():
                    self._over = action
        self._changed.set()

    def _say(self, message: Message, state: bytes | None = None) -> None:
        self._to_send.append((message, state))
        self._wanted.set()

    def _describe(self) -> None:
        for part in collect(self._runtime):
            self._say(Carry(kind=part.kind, name=part.name, version=part.version), part.data)
        self._say(Carry(kind="", name="", version=0, last=True))
        fault("give.described")

    def _left(self, number: int) -> None:
        offered = self._offers.pop(number)
        item = offered.item
        self._tally.moved[item.name] += 1
        if isinstance(item, MovableDownstream):
            self._waiting.pop(id(item.connection), None)
        if self._rehearsal:
            return
        pause = time.monotonic() - offered.cut
        self._tally.pauses.append(pause)
        self._status.gave(item.name, pause)
        item.leave()
        if isinstance(item, MovableDownstream):
            self._status.relay(item.name, item.relaying)
        fault("give.answered")

    def _back(self, number: int) -> None:
        offered = self._offers.pop(number)
        self._status.put_off()
        if not self._rehearsal:
            offered.item.thaw()
        if isinstance(offered.item, MovableDownstream):
            offered.item.out = False
            self._look_again(offered.item, trio.current_time() + _LOOK_AGAIN)

    def _refused(self, number: int, why: str, *, for_ever: bool) -> None:
        item = self._offers[number].item
        if not for_ever and isinstance(item, MovableDownstream):
            self._back(number)
            return
        del self._offers[number]
        if not self._rehearsal:
            item.thaw()
        self._keep(item, why)

    def _keep(self, item: Movable, why: str) -> None:
        self._tally.refused[f"{item.name}: {why}"] += 1
        self._status.refuse(item.name, why)
        if isinstance(item, MovableDownstream):
            self._waiting.pop(id(item.connection), None)
            self._kept[id(item.connection)] = item
            item.waits, item.out = why, False
            item.connection.seek(None)
        elif isinstance(item, MovableUpstream):
            self._unwanted.add(item.cluster)
        if not self._rehearsal:
            item.keep()

    # ---- the channel

    async def _send_all(self) -> None:
        while True:
            await self._send_what_waits()
            self._changed.set()
            self._wanted = trio.Event()
            await self._wanted.wait()

    async def _send_what_waits(self) -> None:
        # Who is cancelled in here has sent nothing of what is first.
        while self._to_send:
            first = self._to_send[0]
            if first is None:
                self._channel.stop_receiving()
            else:
                try:
                    await self._send(*first)
                except Unheard:
                    pass  # it has gone, or is about to say why: what is received tells
            self._to_send.popleft()

    async def _send(self, message: Message, state: bytes | None) -> None:
        descriptors: list[int] = []
        within = giving.STALL
        number = 0
        if isinstance(message, Offer):
            number = message.number
            offered = self._offers.get(number)
            if offered is None:
                return  # it was withdrawn before it was sent
            state = offered.state
            descriptors = [] if self._rehearsal else [sock.fileno() for sock in offered.sockets]
        elif isinstance(message, Withdraw):
            # Nothing that was offered may go on here before the other side can know.
            within = math.inf
            fault("give.withdraw")
        elif isinstance(message, Done):
            fault("give.done")
        try:
            if number and fault("give.offered"):
                raise NotSent("on purpose")
            await self._channel.send(pack(message), descriptors, state, within=within)
        except (NotSent, trio.TooSlowError):
            if number:
                self._do(self._machine.unsent(number))
            elif isinstance(message, Counts):
                self._counts.untold(state or b"")
            else:
                self._do(self._machine.withdraw("the channel takes nothing more"))

    async def _receive_all(self) -> None:
        while not self._machine.over:
            try:
                received = await self._channel.receive()
                if received is None:
                    self._do(self._machine.end())
                    continue
                message = self._understood(received)
            except ValueError as exc:
                self._do(self._machine.broken(str(exc)))
                continue
            if isinstance(message, Hello):
                self._status.meet(message.software)
            if message is not None:
                self._do(self._machine.hear(message))

    def _understood(self, received: Received) -> Message | None:
        with received:
            return unpack(received.message)

    async def _watch_timers(self) -> None:
        while True:
            self._rearmed = trio.Event()
            self._looked_until = min(self._deadlines.values(), default=math.inf)
            with trio.move_on_at(self._looked_until):
                await self._rearmed.wait()
            now = trio.current_time()
            for timer in [one for one, due in self._deadlines.items() if due <= now]:
                del self._deadlines[timer]
                self._do(self._machine.late(timer))

    async def _keep_told(self) -> None:
        while True:
            await trio.sleep(_SECOND)
            if self._machine.state in _OFFERING:
                self._list()
                self._changed.set()
                waiting = self._protocols()
                told = {"waiting": waiting, "serving": self._serving()}
                self._report({"step": "giving", **told, **self._tally.plain()})
                # One at a time: the queue must have room for WITHDRAW, whatever the other side does.
                if not self._rehearsal and not self._channel.unread:
                    self._count()

    def _count(self) -> None:
        left = self._protocols()
        self._status.wait(left)
        relayed: Counter[str] = Counter()
        for connection in self._connections():
            relayed[name_of(connection)] += relaying(connection)
        self._status.relaying(relayed)
        self._say(Counts(left=left), self._counts.tell())

    def _connections(self) -> Iterator[Connection]:
        for active in self._runtime.every_listener:
            yield from active.connections.values()

    def _protocols(self) -> dict[str, int]:
        left: dict[str, int] = {}
        for item in (*self._waiting.values(), *self._kept.values()):
            if not item.gone:
                left[item.name] = left.get(item.name, 0) + 1
        return left

    def _serving(self) -> dict[str, int]:
        # By protocol, what this process still has to do with.
        found: Counter[str] = Counter()
        for connection in self._connections():
            found[name_of(connection)] += 1
        return dict(found)

    # ---- what is offered

    async def _offer_all(self) -> None:
        machine = self._machine
        listed = False
        while not machine.over:
            self._changed = trio.Event()
            pause = math.inf
            # Nothing stands still before the other side could know that it accepts: whoever comes must be served.
            if machine.state in _OFFERING and (listed or not self._to_send):
                if not listed:
                    listed = True
                    self._list()
                    self._whole = len(self._waiting)
                pause = self._offer_some()
            if pause == math.inf:  # nearly always, while there is something to give
                await self._changed.wait()
                continue
            with trio.move_on_after(pause):
                await self._changed.wait()
        while self._to_send and machine.state in _WELL:
            self._changed = trio.Event()
            await self._changed.wait()  # for the last word to be sent

    def _list(self) -> None:
        # Nobody is accepted any more: who comes yet comes from an older process.
        snapshot = self._runtime.snapshot
        clusters = snapshot.clusters if snapshot is not None else {}
        for active in self._runtime.every_listener:
            for connection in active.connections.values():
                if connection.id in self._listed or relaying(connection):
                    continue
                self._listed.add(connection.id)
                item = MovableDownstream(active, connection, self._codecs, clusters)
                self._waiting[id(connection)] = item
                if active.chains.main.draining:
                    self._keep(item, "its listener has stopped")
                else:
                    self._ready.append(item)

    def _offer_some(self) -> float:
        """Offer what there is room for; return how long to wait for the next time, if nothing is heard before."""
        machine = self._machine
        now = trio.current_time()
        if now < self._rest_until and self._serves:
            return min(self._rest_until - now, _LOOK_AGAIN)
        begun = time.thread_time()
        while self._later and self._later[0][0] <= now:
            self._ready.append(heapq.heappop(self._later)[2])
        while self._unwritten:
            self._keep(*self._unwritten.popleft())
        offered = 0
        if self._aside and machine.state is giving.State.TAILING:
            return self._rest(now)
        while machine.room and self._ready:
            item = self._ready.popleft()
            if item.gone:
                self._waiting.pop(id(item.connection), None)
            elif not item.out and id(item.connection) in self._waiting and self._ripe(item, now):
                offered += self._offer(item)
        for upstream in self._upstreams(offered):
            offered += self._offer(upstream)
        if offered:
            self._rest_until = now + self._pace.rest * (time.thread_time() - begun)
            return 0.0 if machine.room else math.inf
        return self._rest(now)

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
        again = now + (_SELDOM if item.seeking else _LOOK_AGAIN)
        if standing is Standing.RELAY:
            item.idle_by = item.idle_by or now + (0.0 if self._rehearsal else _IDLE_FIRST)
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
        self._look_again(item, again)
        return False

    def _found(self, item: MovableDownstream) -> bool:
        # Its driver says that it can be frozen now, and asks whether it is.
        machine = self._machine
        if item.out or id(item.connection) not in self._waiting or machine.over or self._aside:
            return False
        now = trio.current_time()
        if not machine.room or (item.standing is Standing.RELAY and now < item.idle_by):
            return False
        if item.standing not in _MOVABLE:
            return False
        try:
            offered = self._offer_now(item)
        except OSError:
            return False  # no room for a link to its streams, now
        except Exception as exc:  # a plugin's codec, too: see ``reason``
            # Not from within its driver: to be kept it is drained.
            self._unwritten.append((item, reason(exc)))
            self._changed.set()
            return False
        return offered

    def _look_again(self, item: MovableDownstream, at: float) -> None:
        heapq.heappush(self._later, (at, next(self._turns), item))

    def _rest(self, now: float) -> float:
        # Nothing can be offered now.
        machine = self._machine
        if machine.out or not machine.room:
            return math.inf
        if machine.state is giving.State.GIVING:
            if self._given_by == math.inf:
                self._given_by = now + _IDLE_FIRST
            if now < self._given_by and not self._aside and self._may_go():
                soonest = self._later[0][0] if self._later else now + _LOOK_AGAIN
                return max(min(soonest, self._given_by) - now, 0.0)
            self._do(machine.settled())
            if not self._rehearsal:
                self._tail_until = self._patient_until()
            self._status.enter(Stage.TAILING)
            if not self._rehearsal:
                told = {"serving": self._serving(), **self._tally.plain()}
                self._report({"step": "given", **told})
        if self._rehearsal:
            self._do(machine.empty())
            return 0.0
        if not self._serves:
            self._finish()
            return 0.0
        if self._aside:
            self._count()
            self._do(machine.follow(self._protocols()))
            return 0.0
        if now >= self._tail_until:
            if self._was_cut:
                self._finish()  # whatever does not even end by a reset ends with the process
                return 0.0
            self._was_cut = True
            self._tail_until = now + _LAST_WORDS
            self._cut_off()
        soonest = self._later[0][0] if self._later else math.inf
        return max(min(soonest, now + _LOOK_AGAIN, self._tail_until) - now, 0.0)

    @property
    def _serves(self) -> bool:
        return any(active.connections for active in self._runtime.every_listener)

    def _may_go(self) -> bool:
        # Whether any of those that are waited for may be able to move soon.
        return any(
            not item.gone and item.standing is not Standing.NEVER for item in self._waiting.values()
        )

    def _patient_until(self) -> float:
        # From when it began to tail, also where others have taken the place of its successor since.
        runtime = self._runtime
        if runtime.tails_since is None:
            runtime.tails_since = trio.current_time()
        return runtime.tails_since + (self._pace.patience or math.inf)

    def _finish(self) -> None:
        self._status.end()
        self._count()
        self._do(self._machine.empty(self._tally.left))

    def _cut_off(self) -> None:
        # Their patience is over: reset, and counted by name.
        left = self._protocols()
        for name, count in left.items():
            self._tally.left[f"{name}: cut off (takeover.patience)"] += count
            self._status.fail("takeover.patience", count)
        for connection in self._connections():
            if streams := relaying(connection):
                assert connection.terms is not None  # it is served
                name = f"{connection.terms.plugin.name} stream"
                self._tally.left[f"{name}: cut off (takeover.patience)"] += streams
                self._status.fail("takeover.patience", streams)
        for active in self._runtime.every_listener:
            for connection in list(active.connections.values()):
                driver = connection.driver
                if relaying(connection) and isinstance(driver, Multiplexed):
                    driver.close_soon()  # whoever has it resets what is on the link, and nothing else
                else:
                    connection.stream.abort()
            active.cut("after takeover.patience")

    def _offer(self, item: Movable) -> int:
        """Offer one; return how many were."""
        try:
            return int(self._offer_now(item))
        except OSError as exc:
            # No room for a link to its streams, now.
            if isinstance(item, MovableDownstream):
                item.waits = f"it cannot be frozen: {exc.strerror}"
                self._look_again(item, trio.current_time() + _SELDOM)
        except Exception as exc:  # a plugin's codec, too: see ``reason``
            self._keep(item, reason(exc))
        return 0

    def _offer_now(self, item: Movable) -> bool:
        """Offer one. Raises what ``Movable.freeze`` raises, and whatever its codec does."""
        state, sockets = item.freeze()
        fault("give.frozen")
        if isinstance(item, MovableDownstream):
            item.out = True
        cut = time.monotonic()
        if self._rehearsal:
            item.thaw()
        number = self._machine.offer()
        self._offers[number] = _Offered(item, state, sockets, cut)
        self._do(self._machine.offered())
        self._say(Offer(number=number, cut=cut))
        return not self._rehearsal

    def _upstreams(self, offered: int) -> Iterator[MovableUpstream]:
        """Give the same share of what waits for requests as has moved of the clients, while there is room."""
        snapshot = self._runtime.snapshot
        if snapshot is None:
            return
        tailing = self._machine.state is giving.State.TAILING or not (offered or self._ready)
        share = 1.0 if tailing or not self._whole else 1 - len(self._waiting) / self._whole
        for name, cluster in snapshot.clusters.items():
            if name in self._unwanted:
                continue
            opened = sum(endpoint.connections for endpoint in cluster.endpoints)
            while self._machine.room and opened and name not in self._unwanted:
                before = self._given[name]
                if before >= share * (before + opened) or (self._rehearsal and before):
                    break
                given = next(itertools.islice(cluster.give(), 1), None)
                if given is None:
                    break
                self._given[name] += 1
                yield MovableUpstream(name, settings_of(cluster.config), given)
