"""How far a connection is on its way from the first stream to the last byte, and what takes it further.

Rule of this file: whether a stream may begin, and whether the peer is still read, is asked of the phase and of
nothing else. Each event has its place in each phase; where it changes nothing the table says so.

Two things that are easily taken for one: the peer's input *is over* (``HEARD``, ``FINISHED``: it said so itself, and
nobody need wait for more), and nobody *looks at it any more* (``STOPPED``: it may be sending still, and is read for a
while before the socket closes, so that it can read what it was told).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final


class Phase(Enum):
    """Where a connection is."""

    SERVING = "serving"
    """Streams begin, on either side that may."""
    SOUGHT = "sought"
    """The same, and another process would have the connection: who drives it asks between two streams."""
    DRAINING = "draining"
    """We said goodbye. We begin no stream; one that the peer began before it read that is served."""
    LEAVING = "leaving"
    """No stream begins any more; the peer is read for the sake of those in flight."""
    HEARD = "heard"
    """The peer's input is over. What it asked for is answered, also what nobody has looked at yet."""
    FINISHED = "finished"
    """The peer's input is over, and nothing more begins."""
    STOPPED = "stopped"
    """Nobody looks at the peer's input any more; what it asked for before is answered."""
    VIOLATED = "violated"
    """The peer broke its protocol: it is told, and what it asked for in full is answered."""
    BROKEN = "broken"
    """Nothing comes and nothing goes."""
    CLOSED = "closed"
    """The socket is closed."""

    __hash__ = object.__hash__  # that of Enum is written in Python


class Event(Enum):
    """What changes a phase."""

    DRAIN = "drain"
    """We say goodbye."""
    GOODBYE = "goodbye"
    """The peer says it, or the protocol ends the connection with the message under way."""
    END = "end"
    """The peer's input ends."""
    STOP = "stop"
    """We look at no more of it."""
    VIOLATION = "violation"
    BREAK = "break"
    """A reset, or a peer that takes nothing or says nothing for too long."""
    CLOSE = "close"
    SEEK = "seek"
    """Another process would have it. Nothing leads back: a phase costs nobody anything who no longer seeks."""

    __hash__ = object.__hash__


_P = Phase
_E = Event
_ORDER: Final = (_E.DRAIN, _E.GOODBYE, _E.END, _E.STOP, _E.VIOLATION, _E.BREAK, _E.CLOSE, _E.SEEK)
_BEGUN: Final = (_P.DRAINING, _P.LEAVING, _P.HEARD, _P.STOPPED, _P.VIOLATED, _P.BROKEN, _P.CLOSED)
_ROWS: Final[Mapping[Phase, tuple[Phase, ...]]] = {
    _P.SERVING: (*_BEGUN, _P.SOUGHT),
    _P.SOUGHT: (*_BEGUN, _P.SOUGHT),
    _P.DRAINING: (*_BEGUN, _P.DRAINING),
    _P.LEAVING: (
        _P.LEAVING,
        _P.LEAVING,
        _P.FINISHED,
        _P.STOPPED,
        _P.VIOLATED,
        _P.BROKEN,
        _P.CLOSED,
        _P.LEAVING,
    ),
    _P.HEARD: (
        _P.HEARD,
        _P.FINISHED,
        _P.HEARD,
        _P.FINISHED,
        _P.FINISHED,
        _P.BROKEN,
        _P.CLOSED,
        _P.HEARD,
    ),
    _P.FINISHED: (*(_P.FINISHED,) * 5, _P.BROKEN, _P.CLOSED, _P.FINISHED),
    _P.STOPPED: (
        _P.STOPPED,
        _P.STOPPED,
        _P.FINISHED,
        _P.STOPPED,
        _P.VIOLATED,
        _P.BROKEN,
        _P.CLOSED,
        _P.STOPPED,
    ),
    _P.VIOLATED: (
        *(_P.VIOLATED,) * 2,
        _P.FINISHED,
        *(_P.VIOLATED,) * 2,
        _P.BROKEN,
        _P.CLOSED,
        _P.VIOLATED,
    ),
    _P.BROKEN: (*(_P.BROKEN,) * 6, _P.CLOSED, _P.BROKEN),
    _P.CLOSED: (_P.CLOSED,) * 8,
}
TRANSITIONS: Final[Mapping[tuple[Phase, Event], Phase]] = {
    (phase, event): after
    for phase, row in _ROWS.items()
    for event, after in zip(_ORDER, row, strict=True)
}
"""The phase after an event, of every phase and event."""

READS: Final = frozenset((Phase.SERVING, Phase.SOUGHT, Phase.DRAINING, Phase.LEAVING))
"""The peer is read, and what is asked of it may be answered."""
INPUT_OVER: Final = frozenset((Phase.HEARD, Phase.FINISHED))
"""The peer has said all that it will say."""
LAST: Final = frozenset(
    (Phase.LEAVING, Phase.FINISHED, Phase.STOPPED, Phase.VIOLATED, Phase.BROKEN, Phase.CLOSED)
)
"""No stream begins, not even one that has been asked for."""
