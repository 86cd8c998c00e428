"""How far a connection, our goodbye and each stream are, and what may happen to a stream (RFC 9113 §5.1).

Rule of this file: whatever decides whether a frame may arrive on a stream, or leave, stands in ``TRANSITIONS``. What
the hot path asks of a state is worked out from it once, below. The tests try every pair, and
``docs/protocols/http2.md`` draws it.

What comes in which order within a message (RFC 9113 §8.1) is no state of a stream: see ``streams.Stream``.

(idea: h2:src/h2/stream.py, h11:h11/_state.py)
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final


class Stage(enum.Enum):
    """How far the connection is."""

    MAGIC = "magic"
    """The client's preface is awaited (server only)."""
    SETTINGS = "settings"
    """The peer's first SETTINGS is awaited (RFC 9113 §3.4)."""
    RUNNING = "running"
    ENDED = "ended"
    """A violation, or the end of input: nothing more is read."""


class Drain(enum.Enum):
    """How far our own goodbye is."""

    NONE = "none"
    ANNOUNCED = "announced"
    """GOAWAY without a bound is out, and a PING behind it: what crosses it on its way is still served."""
    FINAL = "final"
    """GOAWAY with the last stream that is served is out."""


class State(enum.Enum):
    """What a stream is. There are no reserved ones: nobody may push."""

    IDLE = "idle"
    """Nobody opened it, and whoever acts may: a client, above all ids it used."""
    UNUSED = "idle, and not the peer's to open"
    """Nobody opened it, and the peer may not: it is not its own, or it passed it over (RFC 9113 §5.1.1)."""
    OPEN = "open"
    HALF_CLOSED_LOCAL = "half-closed (local)"
    """Our message has ended."""
    HALF_CLOSED_REMOTE = "half-closed (remote)"
    """The peer's message has ended."""
    ABANDONED = "closed, by our RST_STREAM"
    """What the peer sent before it knew is still on its way."""
    CLOSED = "closed"
    """Both messages ended, or the peer reset it."""

    receiving: bool
    """The peer's message has not ended: HEADERS and DATA may arrive."""
    sending: bool
    """Our message has not ended."""
    received: State
    """What it is once the peer's message has ended. Itself where that cannot be."""
    sent: State
    """What it is once ours has."""


class Event(enum.Enum):
    """What may happen to a stream. PRIORITY is none: it may arrive at any time (RFC 9113 §5.3.2)."""

    HEADERS_ARRIVE = "HEADERS arrive"
    DATA_ARRIVE = "DATA arrive"
    END_ARRIVES = "END_STREAM arrives"
    """On the HEADERS or DATA just taken."""
    RESET_ARRIVES = "RST_STREAM arrives"
    CREDIT_ARRIVES = "WINDOW_UPDATE arrives"
    HEADERS_LEAVE = "HEADERS leave"
    DATA_LEAVE = "DATA leave"
    END_LEAVES = "END_STREAM leaves"
    RESET_LEAVES = "RST_STREAM leaves"
    """Because we have no more use for it."""
    FAULT_IS_FOUND = "stream error"
    """RST_STREAM leaves because the peer broke a rule on it (RFC 9113 §5.4.2)."""

    @property
    def frame(self) -> str:
        """The kind of frame, for the messages of errors."""
        return self.value.partition(" ")[0]


class Refusal(enum.Enum):
    """What becomes of an event that a state does not allow."""

    IGNORED = "ignored"
    """Its sender could not know: what arrives is dropped, what is to leave is swallowed."""
    STREAM_CLOSED = "stream error STREAM_CLOSED"
    NOT_OPENED = "connection error PROTOCOL_ERROR"
    GONE = "connection error STREAM_CLOSED"
    OURS = "our own error"
    """LocalProtocolError."""


Outcome = State | Refusal

_IGNORED: Final = Refusal.IGNORED
_CLOSED: Final = Refusal.STREAM_CLOSED
_UNOPENED: Final = Refusal.NOT_OPENED
_GONE: Final = Refusal.GONE
_OURS: Final = Refusal.OURS

_ROWS: Final[Mapping[State, tuple[Outcome, ...]]] = {
    # In the order of Event: HEADERS, DATA, END_STREAM, RST_STREAM and WINDOW_UPDATE arrive; HEADERS, DATA, END_STREAM
    # and RST_STREAM leave; a stream error.
    State.IDLE: (
        *(State.OPEN, _UNOPENED, _UNOPENED, _UNOPENED, _UNOPENED),
        *(State.OPEN, _OURS, _OURS, _OURS, _OURS),
    ),
    State.UNUSED: (
        *(_UNOPENED, _UNOPENED, _UNOPENED, _UNOPENED, _UNOPENED),
        # A client passes over the id of a request that waited and was not sent: who sends on it could not know.
        *(_IGNORED, _IGNORED, _IGNORED, _IGNORED, _OURS),
    ),
    State.OPEN: (
        *(State.OPEN, State.OPEN, State.HALF_CLOSED_REMOTE, State.CLOSED, State.OPEN),
        *(State.OPEN, State.OPEN, State.HALF_CLOSED_LOCAL, State.ABANDONED, State.ABANDONED),
    ),
    State.HALF_CLOSED_LOCAL: (
        *(State.HALF_CLOSED_LOCAL, State.HALF_CLOSED_LOCAL, State.CLOSED),
        *(State.CLOSED, State.HALF_CLOSED_LOCAL),
        *(_OURS, _OURS, _OURS, State.ABANDONED, State.ABANDONED),
    ),
    State.HALF_CLOSED_REMOTE: (
        *(_CLOSED, _CLOSED, _CLOSED, State.CLOSED, State.HALF_CLOSED_REMOTE),
        *(State.HALF_CLOSED_REMOTE, State.HALF_CLOSED_REMOTE, State.CLOSED),
        # Who has ended its message sends no more that could cross ours; who sends more all the same is ignored.
        *(State.CLOSED, State.ABANDONED),
    ),
    State.ABANDONED: (_IGNORED,) * len(Event),
    State.CLOSED: (
        # After the peer's own RST_STREAM it is a stream error, which an endpoint may make the connection's (§5.4).
        *(_GONE, _GONE, _GONE, _IGNORED, _IGNORED),
        *(_IGNORED, _IGNORED, _IGNORED, _IGNORED, _IGNORED),
    ),
}

TRANSITIONS: Final[Mapping[tuple[State, Event], Outcome]] = {
    (state, event): outcome
    for state, row in _ROWS.items()
    for event, outcome in zip(Event, row, strict=True)
}
"""What a stream becomes, or what becomes of the event."""


def _following(state: State, event: Event) -> State:
    outcome = TRANSITIONS[state, event]
    return outcome if isinstance(outcome, State) else state


for _state in State:
    _state.receiving = isinstance(TRANSITIONS[_state, Event.DATA_ARRIVE], State)
    _state.sending = isinstance(TRANSITIONS[_state, Event.DATA_LEAVE], State)
    _state.received = _following(_state, Event.END_ARRIVES)
    _state.sent = _following(_state, Event.END_LEAVES)
