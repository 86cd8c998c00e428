"""What two processes say to each other in a takeover: ``[kind, fields by name]``, as msgpack, at most 64 KiB.

Rules of this file:

* What is read is believed in nothing: anything wrong is a ValueError, and ends the takeover, not the process.
* A kind of ``SKIPPABLE_FROM`` or more may be passed over by who does not know it; any other unknown one is refused.
  Of fields the same is said by their names (see ``codecs/state_schema.py``).
* Of connections there is nothing in here but their numbers: what is written of one goes beside the message.
"""

from __future__ import annotations

from typing import Final, TypeAlias, TypeVar

import attrs
import msgpack

from xproxy.codecs.state_kinds import FLAG, Kind, mapping, number, sequence, text
from xproxy.codecs.state_schema import StateRecord, state_field
from xproxy.transport.channel import MAX_MESSAGE_BYTES

T = TypeVar("T")

VERSIONS: Final = (1,)
"""Of this protocol, that are spoken here."""
SKIPPABLE_FROM: Final = 128
_MAX_NUMBER: Final = 2**53
TLS: Final = "tls"
"""What the states of sessions are called, among those of codecs."""
MOST_STATES: Final = 256
"""Codecs whose versions HELLO tells; nothing is known of others."""
MOST_VERSIONS: Final = 16
"""Of one codec's state: the newest ones."""


@attrs.frozen(kw_only=True)
class StateVersions:
    """What a process makes of states of one name: a codec's, or ``tls``."""

    name: str
    writes: int = 0
    """The version that it writes; 0: it does not say."""
    reads: tuple[int, ...] = ()
    """Those that it reads; empty: it does not say."""


@attrs.frozen(kw_only=True)
class Hello:
    """Both: who speaks, and what."""

    versions: tuple[int, ...]
    """Of the protocol; the highest common one counts."""
    software: str
    descriptors: int = 0
    """That may be open, RLIMIT_NOFILE."""
    used: int = 0
    """Of these, that are."""
    rehearsal: bool = False
    """Of the old one: nothing is to move, it is only tried whether it could."""
    to_come: int = 0
    """Of the old one: descriptors that would come with all that could move now."""
    states: tuple[StateVersions, ...] = ()
    """Of all codecs that are installed; empty: it does not say."""


@attrs.frozen(kw_only=True)
class Carry:
    """Old: a part that goes along, whose bytes are beside the message."""

    kind: str
    name: str
    version: int
    last: bool = False
    """No other follows; one without a kind says just that."""


@attrs.frozen(kw_only=True)
class Ready:
    """New: it can accept and serve as soon as it may."""

    listeners: tuple[str, ...] = ()
    """That it has, by name."""


@attrs.frozen(kw_only=True)
class Stopped:
    """Old: it accepts nobody any more; its sockets stay open."""

    last_id: int
    """Of its connections: ids go on from here."""


@attrs.frozen(kw_only=True)
class Accepting:
    """New: it does."""

    listeners: tuple[str, ...] = ()
    """Those that do, by name."""


@attrs.frozen(kw_only=True)
class Offer:
    """Old: a connection; what is written of it is beside the message, with its descriptors."""

    number: int
    """Of the offer, from 1, never used again."""
    cut: float
    """When it was frozen: CLOCK_MONOTONIC, seconds. For durations only: no other clock is common to both."""


@attrs.frozen(kw_only=True)
class Taken:
    """New: these are mine. Said before the first byte is read of any."""

    numbers: tuple[int, ...]


@attrs.frozen(kw_only=True)
class Refused:
    """New: this one is yours, my copy of it is closed."""

    number: int
    why: str
    for_ever: bool = True
    """Do not ask again."""


@attrs.frozen(kw_only=True)
class Counts:
    """Old: what was counted since the last time, whose bytes are beside the message; and what it still has."""

    left: dict[str, int] = attrs.field(factory=dict, hash=False)
    """Connections by protocol."""


@attrs.frozen(kw_only=True)
class Settled:
    """Old: what could move has moved. From here on it accepts never again, and the new one goes on in any case."""

    left: dict[str, int] = attrs.field(factory=dict, hash=False)
    """Connections by protocol that may move yet."""


@attrs.frozen(kw_only=True)
class Withdraw:
    """Either: the takeover is over. What was not taken is its giver's."""

    why: str


@attrs.frozen(kw_only=True)
class Done:
    """Old: nothing is left that could be given."""

    left: dict[str, int] = attrs.field(factory=dict, hash=False)
    """What it ends by itself, by name."""


Message: TypeAlias = (
    Hello
    | Carry
    | Ready
    | Stopped
    | Accepting
    | Offer
    | Taken
    | Refused
    | Counts
    | Settled
    | Withdraw
    | Done
)


def _seconds(found: object) -> float:
    if type(found) is not float or not 0.0 <= found < 1e12:
        raise ValueError("is no time")
    return found


_NUMBER: Final = number(1, _MAX_NUMBER)
_COUNT: Final = number(0, _MAX_NUMBER)
_NAME: Final = text(255)
MAX_WHY: Final = 1000
"""Characters of a reason."""
_TEXT: Final = text(MAX_WHY)
_VERSION: Final = number(0, 0xFFFF)
_LEFT: Final = mapping(text(255), _COUNT, 256)


def _several(of: Kind[list[T]], least: int = 0) -> Kind[tuple[T, ...]]:
    def read(found: object) -> tuple[T, ...]:
        values = of.read(found)
        if len(values) < least:
            raise ValueError("is empty")
        return tuple(values)

    write = of.write
    return Kind(read, list if write is None else lambda values: write(list(values)))


_STATES: Final = StateRecord(
    StateVersions,
    state_field("name", _NAME),
    state_field("writes", _VERSION, 0),
    state_field("reads", _several(sequence(_VERSION, MOST_VERSIONS)), ()),
)
_LISTENERS: Final = state_field("listeners", _several(sequence(_NAME, 4096)), ())
_RECORDS: Final[tuple[tuple[int, type, StateRecord[Message]], ...]] = (
    (
        1,
        Hello,
        StateRecord(
            Hello,
            state_field("versions", _several(sequence(_VERSION, 16), 1)),
            state_field("software", _NAME),
            state_field("descriptors", _COUNT, 0),
            state_field("used", _COUNT, 0),
            state_field("rehearsal", FLAG, False),
            # Of a later date than the protocol: who does not know them goes on as before.
            state_field("to_come", _COUNT, 0, key="?to_come"),
            state_field("states", _several(sequence(_STATES.kind, MOST_STATES)), (), key="?states"),
        ),
    ),
    (
        2,
        Carry,
        StateRecord(
            Carry,
            state_field("kind", _NAME),
            state_field("name", _NAME),
            state_field("version", _VERSION),
            state_field("last", FLAG, False),
        ),
    ),
    (3, Ready, StateRecord(Ready, _LISTENERS)),
    (4, Stopped, StateRecord(Stopped, state_field("last_id", _COUNT))),
    (5, Accepting, StateRecord(Accepting, _LISTENERS)),
    (
        6,
        Offer,
        StateRecord(Offer, state_field("number", _NUMBER), state_field("cut", Kind(_seconds))),
    ),
    (7, Taken, StateRecord(Taken, state_field("numbers", _several(sequence(_NUMBER, 256), 1)))),
    (
        8,
        Refused,
        StateRecord(
            Refused,
            state_field("number", _NUMBER),
            state_field("why", _TEXT),
            state_field("for_ever", FLAG, True),
        ),
    ),
    (9, Counts, StateRecord(Counts, state_field("left", _LEFT, {}))),
    (10, Withdraw, StateRecord(Withdraw, state_field("why", _TEXT))),
    (11, Done, StateRecord(Done, state_field("left", _LEFT, {}))),
    (12, Settled, StateRecord(Settled, state_field("left", _LEFT, {}))),
)
"""By kind. One that is not used any more is never used again."""
_BY_CLASS: Final = {cls: (kind, record) for kind, cls, record in _RECORDS}
_BY_KIND: Final = {kind: record for kind, _, record in _RECORDS}


def pack(message: Message) -> bytes:
    """Return a message for ``unpack``. Its fields are as their kinds want them: it is not looked at again."""
    kind, record = _BY_CLASS[type(message)]
    packed: bytes = msgpack.packb([kind, record.write(message)])
    return packed


def unpack(data: bytes) -> Message | None:
    """Return what ``pack`` wrote; None: a message of another release that may be passed over.

    Raises ValueError for anything else, whoever sent it.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise ValueError(f"a message of {len(data)} bytes, limit {MAX_MESSAGE_BYTES}")
    try:
        found: object = msgpack.unpackb(data, strict_map_key=True, ext_hook=_refuse, raw=False)
    except (ValueError, TypeError, RecursionError, OverflowError, msgpack.UnpackException) as exc:
        raise ValueError("no message of a takeover") from exc
    if type(found) is not list or len(found) != 2 or type(found[0]) is not int:
        raise ValueError("no message of a takeover")
    record = _BY_KIND.get(found[0])
    if record is None:
        if found[0] >= SKIPPABLE_FROM:
            return None
        raise ValueError(f"a message of the unknown kind {found[0]}")
    try:
        return record.read(found[1])
    except ValueError as exc:
        raise ValueError(f"a message of kind {found[0]} {exc}") from exc


def _refuse(code: int, _data: bytes) -> object:
    raise ValueError(f"an extension type: {code}")
