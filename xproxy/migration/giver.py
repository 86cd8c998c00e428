"""The old process in a takeover: it offers its connections over a channel until none is left, and then ends.

What happens when is ``giving.py``'s to say; here it is done.
"""

from __future__ import annotations

import logging
import math
import socket
from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import trio

from xproxy.migration import giving
from xproxy.migration.batches import Batches
from xproxy.migration.deadlines import Deadlines
from xproxy.migration.faults import fault
from xproxy.migration.giving import Giving, Timer
from xproxy.migration.greeting import greet
from xproxy.migration.messages import Counts, Hello, Message, Offer, Settled, Stopped, unpack
from xproxy.migration.offers import Offers
from xproxy.migration.pace import DEFAULT_PACE, Pace
from xproxy.migration.rehearsing import untried
from xproxy.migration.serving import cut_off, serves, serving
from xproxy.migration.speaking import Speaking
from xproxy.migration.tally import Tally, most
from xproxy.migration.telling import Telling
from xproxy.migration.undumpable import undumpable
from xproxy.migration.upstream_share import UpstreamShare
from xproxy.migration.waiting import IDLE_FIRST, LOOK_AGAIN, Waiting
from xproxy.observe.takeover import Stage, TakeoverStatus
from xproxy.proxy.handover import Report
from xproxy.proxy.runtime import Runtime
from xproxy.transport.channel import Channel

_logger = logging.getLogger(__name__)

_SECOND: Final = 1.0
"""Between two reports, and two COUNTS."""
_LAST_WORDS: Final = 5.0
"""Seconds that those have to end which were cut off."""
_FULL: Final = "the channel takes nothing more"
_WELL: Final = (giving.State.FINISHED, giving.State.FOLLOWED)
_OFFERING: Final = (giving.State.GIVING, giving.State.PROVING, giving.State.TAILING)


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
        # What is only tried is shown nowhere.
        self._status = TakeoverStatus() if rehearsal else runtime.takeover
        self._tailed = not runtime.accepting.is_set()  # since an earlier takeover
        self._machine = Giving(
            greet(runtime, rehearsal=rehearsal),
            canary=0.0 if rehearsal else pace.canary,
            canaries=pace.canaries,
            window=pace.window,
            tails=self._tailed,
        )
        self._tally = Tally(self._status)
        self._clients = Waiting(
            runtime, lambda item: self._batches.found(item), rehearsal=rehearsal
        )
        upstreams = UpstreamShare(runtime, self._machine, rehearsal=rehearsal)
        self._offers = Offers(
            self._machine,
            self._tally,
            self._clients,
            upstreams,
            self._send_offer,
            rehearsal=rehearsal,
        )
        self._speaking = Speaking(channel, self._offers.to_send, self._unsent)
        self._telling = Telling(
            runtime, self._speaking, self._clients, self._status, rehearsal=rehearsal
        )
        self._batches = Batches(
            runtime,
            self._machine,
            self._clients,
            upstreams,
            self._offers,
            self._look,
            rest=pace.rest,
        )
        self._timers = Deadlines()
        self._changed = trio.Event()
        # Set when something was heard, or everything was said.
        self._nursery: trio.Nursery | None = None
        self._over: giving.Over | None = None
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
        self._aside = self._batches.over = True
        self._changed.set()
        await self.ended.wait()

    async def run(self) -> Outcome:
        fault("give.begin")
        self._status.begin(gives=True)
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._speaking.run, self._look)
                nursery.start_soon(self._timers.run, self._late)
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
        while serves(self._runtime):
            if self._aside:
                return outcome
            now = trio.current_time()
            if now >= until:
                cut_off(self._runtime, self._clients.by_protocol(), self._tally)
                break
            if now >= tell_at:
                tell_at = now + _SECOND
                self._report({"step": "left", "serving": serving(self._runtime)})
            self._changed = trio.Event()
            with trio.move_on_after(LOOK_AGAIN):
                await self._changed.wait()
        self._runtime.stop()  # as in ``_concluded``
        return attrs.evolve(outcome, gone=True)

    async def _settle(self) -> None:
        # Broken off from outside: withdraw. Only where the other side can be told nothing, as it stands still with
        # its queue full, nobody can know whose an offer is: then it is not ours.
        with trio.CancelScope(shield=True), trio.move_on_after(giving.STALL):
            if not self._machine.over:
                self._do(self._machine.withdraw("it was broken off"))
                await self._speaking.flush()
                await self._receive_all()
        self._offers.close()
        self._clients.close()

    def _concluded(self) -> Outcome:
        assert self._over is not None  # the machine has ended
        why = self._over.why
        state = "withdrawn" if why else "followed" if self._over.rest else "gone"
        if self._rehearsal:
            state, why = "rehearsed", why or "; ".join(sorted(most(self._tally.refused)))
            untried(self._runtime, self._clients, self._tally)
        self._report({"step": state, "why": why, **self._tally.plain()})
        _logger.info("takeover: %s%s; %s", state, f": {why}" if why else "", self._tally)
        self._status.end(why)
        known = self._tailed or (self._machine.tails and not self._machine.died)
        if state == "withdrawn" and not known:
            self._telling.lost()  # as it has died, or ends; else somebody knows: see migration.counts
        gone = state == "gone"
        if gone:
            self._runtime.stop()  # whoever has the sockets serves what waits in their queues
        return Outcome(gone=gone, why=why, tally=self._tally)

    # ---- what the machine wants

    def _do(self, actions: list[giving.Action]) -> None:
        for action in actions:
            match action:
                case giving.Send(message=message):
                    self._speaking.say(message)
                case giving.Describe():
                    self._soon(self._telling.describe, lambda: self._machine.prepares)
                case giving.Pause():
                    self._runtime.hold()
                    fault("give.paused")
                    self._speaking.say(Stopped(last_id=self._runtime.ids.last))
                    self._status.enter(Stage.GIVING)
                    self._soon(self._telling.count)
                    self._report({"step": "giving"})
                case giving.Resume():
                    self._runtime.tails_since = None
                    self._runtime.accept()
                case giving.Leave(number=number):
                    self._offers.left(number)
                case giving.Thaw(number=number):
                    self._offers.back(number)
                case giving.Keep(number=number, why=why, for_ever=for_ever):
                    self._offers.refused(number, why, for_ever=for_ever)
                case giving.StopReceiving():
                    self._speaking.stop_receiving()
                case giving.Arm(timer=timer, seconds=seconds):
                    self._timers.arm(timer, seconds)
                case giving.Disarm(timer=timer):
                    self._timers.disarm(timer)
                case giving.Over():
                    self._over = action
        self._changed.set()

    def _soon(self, work: Callable[..., Awaitable[None]], *arguments: object) -> None:
        assert self._nursery is not None  # it is running, or has nothing left to say
        self._nursery.start_soon(work, *arguments)

    def _look(self) -> None:
        self._changed.set()

    # ---- the channel

    def _send_offer(self, number: int, cut: float) -> None:
        self._do(self._machine.offered())
        self._speaking.say(Offer(number=number, cut=cut))

    def _unsent(self, message: Message, state: bytes | None) -> None:
        if isinstance(message, Offer):
            self._do(self._machine.unsent(message.number))
        elif isinstance(message, Counts):
            self._telling.untold(state or b"")
        elif isinstance(message, Settled):
            self._do(self._machine.unsettled(_FULL))
        else:
            self._do(self._machine.withdraw(_FULL))

    async def _receive_all(self) -> None:
        while not self._machine.over:
            try:
                received = await self._channel.receive()
                if received is None:
                    self._do(self._machine.end())
                    continue
                with received:
                    message = unpack(received.message)
            except ValueError as exc:
                self._do(self._machine.broken(str(exc)))
                continue
            if isinstance(message, Hello):
                self._status.meet(message.software)
                self._offers.theirs = message
            if message is not None:
                self._do(self._machine.hear(message))

    def _late(self, timer: Timer) -> None:
        self._do(self._machine.late(timer))

    async def _keep_told(self) -> None:
        while True:
            await trio.sleep(_SECOND)
            if self._machine.state in _OFFERING:
                self._batches.list_all()
                self._changed.set()
                waiting = self._clients.by_protocol()
                told = {"waiting": waiting, "serving": serving(self._runtime)}
                self._report({"step": "giving", **told, **self._tally.plain()})
                # One at a time: the queue must have room for WITHDRAW, whatever the other side does.
                if not self._rehearsal and not self._channel.unread:
                    await self._telling.count()

    # ---- what is offered

    async def _offer_all(self) -> None:
        machine = self._machine
        listed = False
        while not machine.over:
            self._changed = trio.Event()
            pause = math.inf
            # Nothing stands still before the other side could know that it accepts: whoever comes must be served.
            if machine.state in _OFFERING and (listed or self._speaking.silent):
                if not listed:
                    listed = True
                    self._batches.list_all()
                waits = self._batches.offer(now := trio.current_time())
                pause = await self._rest(now) if waits is None else waits
            if pause == math.inf:  # nearly always, while there is something to give
                await self._changed.wait()
                continue
            with trio.move_on_after(pause):
                await self._changed.wait()
        while not self._speaking.silent and machine.state in _WELL:
            self._changed = trio.Event()
            await self._changed.wait()  # for the last word to be sent

    async def _rest(self, now: float) -> float:
        # Nothing can be offered now.
        machine = self._machine
        if machine.out or not machine.room:
            return math.inf
        if machine.state is giving.State.GIVING:
            if self._given_by == math.inf:
                self._given_by = now + IDLE_FIRST
            if now < self._given_by and not self._aside and self._clients.may_go():
                soonest = self._clients.soonest or now + LOOK_AGAIN
                return max(min(soonest, self._given_by) - now, 0.0)
            if machine.unheard:
                return math.inf  # until it accepts
            self._do(machine.settled(self._clients.by_protocol()))
            if not self._rehearsal:
                self._tail_until = self._patient_until()
            self._status.enter(Stage.TAILING)
            if not self._rehearsal:
                told = {"serving": serving(self._runtime), **self._tally.plain()}
                self._report({"step": "given", **told})
        if self._rehearsal:
            self._do(machine.empty())
            return 0.0
        if not serves(self._runtime):
            await self._finish()
            return 0.0
        if self._aside:
            await self._telling.count()
            self._do(machine.follow(self._clients.by_protocol()))
            return 0.0
        if now >= self._tail_until:
            if self._was_cut:
                await self._finish()  # whatever does not even end by a reset ends with the process
                return 0.0
            self._was_cut = True
            self._tail_until = now + _LAST_WORDS
            cut_off(self._runtime, self._clients.by_protocol(), self._tally)
        soonest = self._clients.soonest or math.inf
        return max(min(soonest, now + LOOK_AGAIN, self._tail_until) - now, 0.0)

    def _patient_until(self) -> float:
        # From when it began to tail, also where others have taken the place of its successor since.
        runtime = self._runtime
        if runtime.tails_since is None:
            runtime.tails_since = trio.current_time()
        return runtime.tails_since + (self._pace.patience or math.inf)

    async def _finish(self) -> None:
        self._batches.over = self._was_cut or self._aside  # so that nothing is out then
        self._status.end()
        await self._telling.count()
        if self._was_cut or not serves(self._runtime):  # else an older process has given one
            self._do(self._machine.empty(self._tally.left))
