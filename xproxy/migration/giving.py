"""The old process's side of a takeover: what was said and heard, and what follows. No I/O, no clock of its own.

Rules of this file:

* Whoever drives it does the actions in their order, and tells what happens. It is told of an offer before that is
  sent: an answer must never find it unknown.
* What a message, an end or a timer means in a state is in ``TRANSITIONS``; what is not there is out of turn, and
  withdraws the takeover.
* A connection that was offered is nobody's to touch until one of four things is known: TAKEN (it is the other one's),
  REFUSED, that the offer was not sent, or the channel's end without TAKEN (it is ours as before).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final, TypeAlias

import attrs

from xproxy.migration.messages import (
    VERSIONS,
    Accepting,
    Done,
    Hello,
    Message,
    Ready,
    Refused,
    Settled,
    Taken,
    Withdraw,
)

WINDOW: Final = 4
"""Offers without an answer at a time: more do not make it faster, and each stands still for longer."""
READY_WITHIN: Final = 60.0
"""Seconds from the first word until the new process must be ready."""
STALL: Final = 5.0
"""Seconds without an answer to what was offered, or to STOPPED, after which the takeover is withdrawn."""
CANARIES: Final = 16
"""Connections that are given before the new process has to show, for ``takeover.canary``, that it serves."""


class State(Enum):
    """Where the old process is."""

    GREETING = "greeting"
    """It has said HELLO, and waits for theirs."""
    PREPARING = "preparing"
    """It has said what goes along, and waits until the new process is ready. It serves and accepts as ever."""
    GIVING = "giving"
    """It accepts nobody, and offers what can move."""
    PROVING = "proving"
    """The first connections were taken; it offers no more until the new process has served for a moment."""
    TAILING = "tailing"
    """What could move has moved; what is left moves when it can, or ends here. From here on it accepts never again:
    a process that has another configuration does."""
    SETTLING = "settling"
    """The takeover was withdrawn: it reads what was said before, to learn what was taken."""
    WITHDRAWN = "withdrawn"
    """It serves as before what was not taken, and accepts as before unless it has been tailing."""
    FOLLOWED = "followed"
    """What is left is given to a process that is newer yet."""
    FINISHED = "finished"
    """Nothing is left."""


class Event(Enum):
    """What takes it further."""

    HELLO = "HELLO"
    READY = "READY"
    ACCEPTING = "ACCEPTING"
    TAKEN = "TAKEN"
    REFUSED = "REFUSED"
    WITHDRAW = "WITHDRAW"
    """The new process gives up."""
    END = "end"
    """Of the channel: nothing more will be heard."""
    LATE = "late"
    """It was not ready in time, or has stalled; or it cannot do what will be wanted."""
    PROVE = "prove"
    """So many were taken that the new process has to show that it serves."""
    PROVED = "proved"
    STOP = "stop"
    """Somebody here wishes it to be over."""
    SETTLED = "settled"
    """Everything that can move now has been answered for."""
    FOLLOW = "follow"
    """A process that is newer yet is to get the rest."""
    EMPTY = "empty"
    """The last connection has gone."""


_S = State
_E = Event
_OVER: Final = {
    _E.WITHDRAW: _S.WITHDRAWN,
    _E.END: _S.WITHDRAWN,
    _E.LATE: _S.SETTLING,
    _E.STOP: _S.SETTLING,
}
_ANSWERS: Final = (_E.ACCEPTING, _E.TAKEN, _E.REFUSED)
_ROWS: Final[Mapping[State, Mapping[Event, State]]] = {
    _S.GREETING: {_E.HELLO: _S.PREPARING, **_OVER},
    _S.PREPARING: {_E.READY: _S.GIVING, **_OVER},
    _S.GIVING: {
        **dict.fromkeys(_ANSWERS, _S.GIVING),
        _E.PROVE: _S.PROVING,
        _E.SETTLED: _S.TAILING,
        **_OVER,
    },
    _S.PROVING: {**dict.fromkeys(_ANSWERS, _S.PROVING), _E.PROVED: _S.GIVING, **_OVER},
    _S.TAILING: {
        **dict.fromkeys(_ANSWERS, _S.TAILING),
        _E.FOLLOW: _S.FOLLOWED,
        _E.EMPTY: _S.FINISHED,
        **_OVER,
    },
    _S.SETTLING: {
        **dict.fromkeys((_E.HELLO, _E.READY, *_ANSWERS, _E.WITHDRAW), _S.SETTLING),
        _E.END: _S.WITHDRAWN,
    },
    _S.WITHDRAWN: {},
    _S.FOLLOWED: {},
    _S.FINISHED: {},
}
TRANSITIONS: Final[Mapping[tuple[State, Event], State]] = {
    (state, event): after for state, row in _ROWS.items() for event, after in row.items()
}
"""The state after an event. What is not here is out of turn."""


class Timer(Enum):
    """What may be late."""

    READY = "ready"
    STALL = "stall"
    CANARY = "canary"


@attrs.frozen
class Send:
    """Say it. An Offer goes with what was written of its connection."""

    message: Message


@attrs.frozen
class Describe:
    """Say what goes along with the connections: CARRY, the last one marked."""


@attrs.frozen
class Pause:
    """Accept nobody from here on; then say STOPPED."""


@attrs.frozen
class Resume:
    """Accept again."""


@attrs.frozen
class Leave:
    """The other process has it: close our copy, and touch it in no other way."""

    number: int


@attrs.frozen
class Thaw:
    """It is ours, and goes on as if nothing had been."""

    number: int


@attrs.frozen
class Keep:
    """It is ours and goes on; ``for_ever``: do not offer it again."""

    number: int
    why: str
    for_ever: bool


@attrs.frozen
class StopReceiving:
    """Take nothing that is sent from here on, and read what is there to its end."""


@attrs.frozen
class Arm:
    """Call ``late`` after so many seconds, unless it is armed anew or disarmed."""

    timer: Timer
    seconds: float


@attrs.frozen
class Disarm:
    timer: Timer


@attrs.frozen
class Over:
    """The takeover has ended. ``why`` is empty where it went well; ``rest``: not everything has gone."""

    why: str
    rest: bool = False


Action: TypeAlias = (
    Send | Describe | Pause | Resume | Leave | Thaw | Keep | StopReceiving | Arm | Disarm | Over
)
_TOLD: Final = frozenset((State.GIVING, State.PROVING, State.TAILING))
_ENDED: Final = frozenset((State.WITHDRAWN, State.FOLLOWED, State.FINISHED))


@attrs.define(eq=True, unsafe_hash=True)
class Giving:
    """See the module. Fields hold nothing that changes, so that a copy is another history from here on."""

    hello: Hello
    """Ours."""
    canary: float = 1.0
    """Seconds; 0: the new process has nothing to show."""
    canaries: int = CANARIES
    window: int = WINDOW
    tails: bool = False
    """It has been tailing, in this takeover or an earlier one: it accepts nobody, also if this one is withdrawn."""
    state: State = State.GREETING
    out: frozenset[int] = frozenset()
    """Numbers of offers that were not answered."""
    last: int = 0
    """Number of the last offer."""
    taken: int = 0
    proved: bool = False
    accepting: bool = False
    """The new process does."""
    stopped: bool = False
    """We accept nobody."""
    first: bool = False
    """We accepted until this takeover was settled."""
    listeners: frozenset[str] = frozenset()
    """That the new process has."""
    died: bool = False
    """The new process has ended without a word."""
    why: str = ""
    """What ended it."""

    @property
    def over(self) -> bool:
        """Whether it has ended, either way."""
        return self.state in _ENDED

    @property
    def prepares(self) -> bool:
        """Whether the new process is to hear what goes along."""
        return self.state is State.PREPARING

    @property
    def room(self) -> int:
        """How many offers may be made now."""
        if self.state not in (State.GIVING, State.TAILING):
            return 0
        most = self.window
        if self.canary and not self.proved:
            most = min(most, self.canaries - self.taken)
        return max(most - len(self.out), 0)

    def begin(self) -> list[Action]:
        """Say the first word."""
        return [Send(self.hello), Arm(Timer.READY, READY_WITHIN)]

    def offer(self) -> int:
        """Note that one more connection, which stands still, is about to be offered; returns the offer's number."""
        assert self.room
        self.last += 1
        self.out |= {self.last}
        return self.last

    def offered(self) -> list[Action]:
        """It is about to be sent."""
        return [Arm(Timer.STALL, STALL)] if len(self.out) == 1 else []

    def unsent(self, number: int) -> list[Action]:
        """The kernel did not take an offer: fewer at a time, from here on."""
        if number not in self.out:
            return []  # it was withdrawn meanwhile
        self.out -= {number}
        self.window = max(self.window // 2, 1)
        return [Thaw(number), *self._stall()]

    def hear(self, message: Message) -> list[Action]:
        """The new process has said something."""
        match message:
            case Hello():
                return self._hello(message)
            case Ready():
                return self._ready(message)
            case Accepting():
                actions = self._after(Event.ACCEPTING)
                self.accepting = True
                return [*actions, *self._stall()] if self.state in _TOLD else actions
            case Taken():
                known = sorted(self.out & set(message.numbers))
                left: list[Action] = [Leave(number) for number in known]
                return self._answered(Event.TAKEN, message.numbers, left)
            case Refused(number=number):
                ours: list[Action] = []
                if number in self.out:
                    ours.append(Keep(number, message.why, message.for_ever))
                return self._answered(Event.REFUSED, (number,), ours)
            case Withdraw():
                self.why = self.why or f"the new process gave up: {message.why}"
                return self._after(Event.WITHDRAW)
        return self._out_of_turn(type(message).__name__)

    def _hello(self, theirs: Hello) -> list[Action]:
        if self.state is State.GREETING and not set(VERSIONS) & set(theirs.versions):
            return self._give_up(f"it speaks versions {theirs.versions}, known are {VERSIONS}")
        room = theirs.descriptors - theirs.used
        if self.state is State.GREETING and theirs.descriptors and room < self.hello.to_come:
            have, come = max(room, 0), self.hello.to_come
            self.why = f"the new process lacks descriptors: has room for {have}, {come} are to come"
            return self._after(Event.LATE)
        actions = self._after(Event.HELLO)
        return [*actions, Describe()] if self.state is State.PREPARING else actions

    def _ready(self, message: Ready) -> list[Action]:
        actions = self._after(Event.READY)
        if self.state is not State.GIVING:
            return actions
        self.listeners = frozenset(message.listeners)
        actions.append(Disarm(Timer.READY))
        if not self.hello.rehearsal:
            self.stopped = not self.tails
            actions += [Pause(), *self._stall()]
        return actions

    def _answered(
        self, event: Event, numbers: tuple[int, ...], actions: list[Action]
    ) -> list[Action]:
        strange = len(numbers) > len(actions)
        actions += self._after(event)
        self.out -= set(numbers)
        if strange:
            return actions + self._out_of_turn(f"{event.value} of what was not offered")
        if self.state is State.SETTLING:
            return actions
        actions += self._stall()
        if event is Event.TAKEN:
            self.taken += len(numbers)
            due = self.canary and not self.proved and self.taken >= self.canaries
            if due and self.state is State.GIVING:
                actions += [*self._after(Event.PROVE), Arm(Timer.CANARY, self.canary)]
        return actions

    def _stall(self) -> list[Action]:
        return [Arm(Timer.STALL, STALL) if self.out or self.unheard else Disarm(Timer.STALL)]

    @property
    def unheard(self) -> bool:
        """We accept nobody, and have not heard that the new process does."""
        return self.state in _TOLD and not self.accepting and not self.hello.rehearsal

    def settled(self, left: Mapping[str, int] | None = None) -> list[Action]:
        """There is nothing more that can be offered now, and no offer is out; this is ``left``, by protocol.

        While it is ``unheard`` whether anybody accepts this is nothing: we might end, and nobody would be there.
        """
        assert not self.out
        if self.state is not State.GIVING or self.unheard:
            return []
        self.proved = True  # so few there were: what comes later comes one by one
        actions = self._after(Event.SETTLED)
        if self.hello.rehearsal:
            return actions
        self.first = self.stopped
        self.tails, self.stopped = True, False
        return [*actions, Send(Settled(left=dict(left or {})))]

    def unsettled(self, why: str) -> list[Action]:
        """SETTLED was not sent. The new process ends with the takeover then: whoever has accepted does so again."""
        if self.state is State.TAILING and self.first:
            self.tails, self.stopped = False, True
        return self.withdraw(why)

    def empty(self, left: Mapping[str, int] | None = None) -> list[Action]:
        """The last connection has gone; ``left`` was cut off, by name."""
        assert not self.out
        if self.state is not State.TAILING:
            return []
        self._after(Event.EMPTY)
        return [Send(Done(left=dict(left or {}))), Over("")]

    def follow(self, left: Mapping[str, int] | None = None) -> list[Action]:
        """A process that is newer yet is to get what is ``left``, by name; no offer is out."""
        assert not self.out
        if self.state is not State.TAILING:
            return []
        self._after(Event.FOLLOW)
        return [Send(Done(left=dict(left or {}))), Over("", rest=True)]

    def late(self, timer: Timer) -> list[Action]:
        """A timer has come to its end."""
        if self.over or self.state is State.SETTLING:
            return []
        if timer is Timer.CANARY:
            if self.state is not State.PROVING:
                return []
            if not self.accepting and not self.hello.rehearsal:
                return self._give_up("it does not accept anybody")
            self.proved = True
            return self._after(Event.PROVED)
        if timer is Timer.STALL:
            if self.out:
                return self._give_up(f"it did not answer an offer for {STALL:g} s")
            return self._give_up(f"it accepts nobody since {STALL:g} s") if self.unheard else []
        if self.state in (State.GREETING, State.PREPARING):
            return self._give_up(f"it was not ready within {READY_WITHIN:g} s")
        return []

    def withdraw(self, why: str) -> list[Action]:
        """Somebody here wishes it to be over."""
        if self.over or self.state is State.SETTLING:
            return []
        self.why = self.why or why
        return self._after(Event.STOP)

    def broken(self, why: str) -> list[Action]:
        """The new process has said something that is no message."""
        return self._out_of_turn(why)

    def end(self) -> list[Action]:
        """The channel has ended, and everything in it has been heard."""
        self.died = self.state is not State.SETTLING
        self.why = self.why or "the new process has ended"
        return self._after(Event.END)

    # ---- turns

    def _after(self, event: Event) -> list[Action]:
        after = TRANSITIONS.get((self.state, event))
        if after is None:
            return self._out_of_turn(event.value)
        before, self.state = self.state, after
        if after is State.SETTLING and before is not after:
            return [Send(Withdraw(why=self.why)), StopReceiving()]
        if after is State.WITHDRAWN:
            actions: list[Action] = [Thaw(number) for number in sorted(self.out)]
            self.out = frozenset()
            if self.stopped:
                self.stopped = False
                actions.append(Resume())
            return [*actions, Over(self.why, rest=True)]
        return []

    def _give_up(self, why: str) -> list[Action]:
        self.why = self.why or f"the new process is withdrawn from: {why}"
        return self._after(Event.LATE)

    def _out_of_turn(self, what: str) -> list[Action]:
        if self.over or self.state is State.SETTLING:
            return []
        self.why = self.why or f"the new process said what cannot be: {what}"
        return self._after(Event.STOP)
