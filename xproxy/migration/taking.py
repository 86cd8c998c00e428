"""The new process's side of a takeover: what was said and heard, and what follows. No I/O, no clock of its own.

Rules of this file: those of ``giving.py``; and

* A connection that was offered is ours once TAKEN was sent, and not before. Where the other side heard it no more, it
  is in doubt: WITHDRAW says that it is the giver's, an end without it that the giver has died, and ours is the only
  copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final, TypeAlias

import attrs

from xproxy.migration.messages import (
    MAX_WHY,
    VERSIONS,
    Accepting,
    Carry,
    Counts,
    Done,
    Hello,
    Message,
    Offer,
    Ready,
    Refused,
    Settled,
    Stopped,
    Taken,
    Withdraw,
)


class State(Enum):
    """Where the new process is."""

    GREETING = "greeting"
    """It has said HELLO, and waits for theirs."""
    HEARING = "hearing"
    """It hears what goes along."""
    READY = "ready"
    """It could serve; it accepts nobody yet."""
    TAKING = "taking"
    """It accepts, serves, and takes what is offered."""
    HEIR = "heir"
    """It does so, and goes on whatever becomes of the old one, which accepts never again."""
    SERVING = "serving"
    """It serves alone: the old process has nothing left, or has died."""
    WITHDRAWN = "withdrawn"
    """The takeover is over: it accepts nobody, and ends when what it has taken has."""


class Event(Enum):
    """What takes it further."""

    HELLO = "HELLO"
    CARRY = "CARRY"
    LAST = "last CARRY"
    STOPPED = "STOPPED"
    OFFER = "OFFER"
    COUNTS = "COUNTS"
    SETTLED = "SETTLED"
    DONE = "DONE"
    WITHDRAW = "WITHDRAW"
    """The old process takes back what was not taken."""
    END = "end"
    """Of the channel."""
    STOP = "stop"
    """Somebody here wishes it to be over."""


_S = State
_E = Event
_OVER: Final = {_E.WITHDRAW: _S.WITHDRAWN, _E.STOP: _S.WITHDRAWN, _E.END: _S.SERVING}
_ROWS: Final[Mapping[State, Mapping[Event, State]]] = {
    _S.GREETING: {_E.HELLO: _S.HEARING, **_OVER},
    _S.HEARING: {_E.CARRY: _S.HEARING, _E.LAST: _S.READY, **_OVER},
    _S.READY: {_E.STOPPED: _S.TAKING, **_OVER},
    _S.TAKING: {
        **dict.fromkeys((_E.OFFER, _E.COUNTS), _S.TAKING),
        _E.SETTLED: _S.HEIR,
        _E.DONE: _S.SERVING,
        **_OVER,
    },
    _S.HEIR: {
        **dict.fromkeys((_E.OFFER, _E.COUNTS), _S.HEIR),
        **dict.fromkeys((_E.DONE, _E.WITHDRAW, _E.STOP, _E.END), _S.SERVING),
    },
    _S.SERVING: {},
    _S.WITHDRAWN: {},
}
TRANSITIONS: Final[Mapping[tuple[State, Event], State]] = {
    (state, event): after for state, row in _ROWS.items() for event, after in row.items()
}
"""The state after an event. What is not here is out of turn."""
REHEARSED: Final[Mapping[tuple[State, Event], State]] = {
    (_S.READY, _E.OFFER): _S.READY,
    (_S.READY, _E.DONE): _S.WITHDRAWN,
    **{(state, _E.END): _S.WITHDRAWN for state in (_S.GREETING, _S.HEARING, _S.READY)},
}
"""What is otherwise in a rehearsal."""


@attrs.frozen
class Send:
    """Say it; then call ``sent`` or ``unheard`` with the number of what was taken by it."""

    message: Message


@attrs.frozen
class Resume:
    """Go on with a part that came along."""

    carry: Carry


@attrs.frozen
class Number:
    """Ids of connections go on after this one."""

    last_id: int


@attrs.frozen
class Accept:
    """Let every listener accept."""


@attrs.frozen
class Restore:
    """Make a connection of what came with an offer, but touch it in no way; then call ``restored`` or ``refuse``."""

    offer: Offer


@attrs.frozen
class Try:
    """The same without the connection: only see whether it could be done; then call ``restored`` or ``refuse``."""

    offer: Offer


@attrs.frozen
class Begin:
    """It is ours: serve it."""

    number: int


@attrs.frozen
class Drop:
    """It is not ours: close our copy, and touch it in no other way."""

    number: int


@attrs.frozen
class Count:
    """Add what the old process has counted."""

    counts: Counts


@attrs.frozen
class Over:
    """The takeover has ended. ``why`` is empty where it went well; ``serve``: go on serving and accepting."""

    why: str
    serve: bool


Action: TypeAlias = Send | Resume | Number | Accept | Restore | Try | Begin | Drop | Count | Over
_ENDED: Final = frozenset((State.SERVING, State.WITHDRAWN))


@attrs.define(eq=True, unsafe_hash=True)
class Taking:
    """See the module. Fields hold nothing that changes, so that a copy is another history from here on."""

    hello: Hello
    """Ours."""
    listeners: tuple[str, ...] = ()
    """By name, that we have."""
    state: State = State.GREETING
    rehearsal: bool = False
    accepting: bool = False
    held: frozenset[int] = frozenset()
    """Offers that were neither answered nor dropped."""
    doubtful: frozenset[int] = frozenset()
    """Of these, the ones whose TAKEN was not heard."""
    why: str = ""

    @property
    def over(self) -> bool:
        """Whether it has ended, either way."""
        return self.state in _ENDED

    def begin(self) -> list[Action]:
        """Say the first word."""
        return [Send(self.hello)]

    def hear(self, message: Message) -> list[Action]:
        """The old process has said something."""
        match message:
            case Hello():
                return self._hello(message)
            case Carry():
                return self._carry(message)
            case Stopped():
                actions = self._after(Event.STOPPED)
                if self.state is State.TAKING:
                    actions += [Number(message.last_id), *self._accept()]
                return actions
            case Offer():
                return self._offer(message)
            case Counts():
                actions = self._after(Event.COUNTS)
                return actions if self.over else [Count(message)]
            case Settled():
                return self._after(Event.SETTLED)
            case Done():
                return self._after(Event.DONE)
            case Withdraw():
                self.why = self.why or f"the old process withdrew: {message.why}"
                return self._after(Event.WITHDRAW)
        return self._out_of_turn(type(message).__name__)

    def _hello(self, theirs: Hello) -> list[Action]:
        if self.state is State.GREETING and not set(VERSIONS) & set(theirs.versions):
            return self.withdraw(f"it speaks versions {theirs.versions}, known are {VERSIONS}")
        self.rehearsal = self.rehearsal or theirs.rehearsal
        return self._after(Event.HELLO)

    def _carry(self, message: Carry) -> list[Action]:
        actions = self._after(Event.LAST if message.last else Event.CARRY)
        if self.over:
            return actions
        if message.kind:
            actions.append(Resume(message))
        if message.last:
            actions.append(Send(Ready(listeners=self.listeners)))
        return actions

    def _offer(self, offer: Offer) -> list[Action]:
        if self.over:
            return [Drop(offer.number)]
        if offer.number in self.held:
            return self._out_of_turn("the same offer twice")  # the first one is not to be dropped
        actions = self._after(Event.OFFER)
        if actions:
            return [Drop(offer.number), *actions]
        self.held |= {offer.number}
        return [Try(offer) if self.rehearsal else Restore(offer)]

    def restored(self, number: int) -> list[Action]:
        """A connection was made of an offer, and can begin."""
        if number not in self.held:
            return [Drop(number)]
        return [Send(Taken(numbers=(number,)))]

    def refuse(self, number: int, why: str, *, for_ever: bool = True) -> list[Action]:
        """None could be made of it."""
        if number not in self.held:
            return [Drop(number)]
        self.held -= {number}
        return [Drop(number), Send(Refused(number=number, why=why[:MAX_WHY], for_ever=for_ever))]

    def sent(self, number: int) -> list[Action]:
        """TAKEN was sent: whatever becomes of the other process, it is ours."""
        if self.rehearsal:
            self.held -= {number}
            return [Drop(number)]
        if number not in self.held:
            return []
        self.held -= {number}
        return [Begin(number)]

    def unheard(self, number: int) -> list[Action]:
        """TAKEN was not sent: the other side hears no more. What it has said before says why."""
        if number in self.held:
            self.doubtful |= {number}
        return []

    def withdraw(self, why: str) -> list[Action]:
        """Somebody here wishes it to be over."""
        if self.over:
            return []
        self.why = self.why or why
        if self.doubtful:
            return []  # nobody hears it: what the other side has said, or its end, says whose they are
        return [Send(Withdraw(why=self.why[:MAX_WHY])), *self._after(Event.STOP)]

    def broken(self, why: str) -> list[Action]:
        """The old process has said something that is no message."""
        return self._out_of_turn(why)

    def end(self) -> list[Action]:
        """The channel has ended, and everything in it has been heard."""
        if self.over:
            return []
        self.why = self.why or "the old process has ended"
        return self._after(Event.END)

    # ---- turns

    def _accept(self) -> list[Action]:
        self.accepting = True
        return [Accept(), Send(Accepting(listeners=self.listeners))]

    def _after(self, event: Event) -> list[Action]:
        turn = (self.state, event)
        after = REHEARSED.get(turn) if self.rehearsal else None
        after = after or TRANSITIONS.get(turn)
        if after is None:
            return self._out_of_turn(event.value)
        self.state = after
        if after is State.SERVING:
            taken_back = event in (Event.WITHDRAW, Event.STOP)
            actions: list[Action] = [
                Drop(number) if taken_back else Begin(number) for number in sorted(self.held)
            ]
            self.held = self.doubtful = frozenset()
            if not self.accepting:
                self.accepting = True
                actions.append(Accept())
            return [*actions, Over("" if event is Event.DONE else self.why, serve=True)]
        if after is State.WITHDRAWN:
            actions = [Drop(number) for number in sorted(self.held)]
            self.held = self.doubtful = frozenset()
            self.accepting = False
            return [*actions, Over("" if event is Event.DONE else self.why, serve=False)]
        return []

    def _out_of_turn(self, what: str) -> list[Action]:
        if self.over:
            return []
        return self.withdraw(f"the old process said what cannot be: {what}")
