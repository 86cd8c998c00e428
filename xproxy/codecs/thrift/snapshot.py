"""A codec's state as versioned msgpack, and back.

Rule of this file: what is read may come from anybody. It either describes a state that a codec of this role can be
in, within the limits, or it raises ValueError. A message under way is walked again from its start: the walker's own
state is not written down.
"""

from __future__ import annotations

from typing import Final

import attrs

from xproxy.codecs.packing import MAX_STATE_BYTES
from xproxy.codecs.state_kinds import FLAG, Kind, choice, mapping, number, octets, sequence
from xproxy.codecs.state_schema import StateRecord, StateSchema, by_place, state_field
from xproxy.codecs.thrift.dialect import DIALECTS, FRAMED_STRICT, Dialect
from xproxy.codecs.thrift.encoding import MASK, MAX_NAME_BYTES, is_name
from xproxy.codecs.thrift.message import CODEC, ThriftExtra
from xproxy.codecs.thrift.state import MAX_ONEWAYS, SPARE, Waiting
from xproxy.model.traits import Role

VERSION: Final = 3
_MOST: Final = (1 << 64) - 1


@attrs.frozen
class ServerState:
    """Everything that a server codec's future depends on, besides its limits."""

    held: bytes
    """An unfinished message."""
    over: bool
    refused: int
    waiting: list[Waiting]
    """In the order of the calls."""
    ordered: bool
    """Answers leave in the order of the calls."""
    highest: int
    """Of the sequence ids so far; -1: none."""
    spare: int
    """The number of the next spare stream id."""
    role: Role = Role.SERVER

    def __attrs_post_init__(self) -> None:
        _nothing_after_the_end(self.held, self.over)


@attrs.frozen
class ClientState:
    """Everything that a client codec's future depends on, besides its limits."""

    held: bytes
    over: bool
    asked: dict[int, Dialect]
    """Calls that wait for an answer, by sequence id."""
    oneways: list[int] = attrs.field(factory=list)
    """Sequence ids of oneway calls, oldest first."""
    last_id: int = 0
    """The last sequence id that the codec gave itself; 0: none yet."""
    role: Role = Role.CLIENT

    def __attrs_post_init__(self) -> None:
        _nothing_after_the_end(self.held, self.over)
        if any(seqid in self.asked for seqid in self.oneways):
            raise ValueError("has a call that is oneway and waits for an answer")


def _nothing_after_the_end(held: bytes, over: bool) -> None:
    if over and held:
        raise ValueError("has held bytes after the end")


def _read_dialect(found: object) -> Dialect:
    return DIALECTS[_PLACE.read(found)]


def _read_name(found: object) -> bytes:
    name = _NAME.read(found)
    if not name or not is_name(name):
        raise ValueError("is no method's name")
    return name


_PLACE: Final = number(0, len(DIALECTS) - 1)
_NAME: Final = octets(MAX_NAME_BYTES)
_DIALECT: Final = Kind(_read_dialect, lambda dialect: dialect.number)
_SEQID: Final = number(0, MASK)


def _make_extra(*, dialect: Dialect, wire_name: bytes, flags: int) -> ThriftExtra:
    return ThriftExtra(dialect, wire_name.decode(), flags=flags)


_EXTRA: Final = StateRecord(
    _make_extra,
    state_field("dialect", _DIALECT, FRAMED_STRICT),
    state_field("wire_name", Kind(_read_name), key="name"),
    state_field("flags", number(0, 0xFFFF), 0),
)
_WAITING: Final = StateRecord(
    Waiting,
    state_field("stream_id", number(0, _MOST), key="id"),
    state_field("inner", _SEQID),
    state_field("extra", _EXTRA.kind),
    state_field("ready", octets(MAX_STATE_BYTES), None),
)
_SERVER: Final = StateRecord(
    ServerState,
    state_field("role", choice((Role.SERVER,))),
    state_field("held", octets(MAX_STATE_BYTES), b""),
    state_field("over", FLAG, False),
    state_field("refused", number(0, _MOST), 0),
    state_field("waiting", sequence(_WAITING.kind, MAX_STATE_BYTES), []),
    state_field("ordered", FLAG, False),
    state_field("highest", number(-1, MASK), -1),
    state_field("spare", number(1, SPARE - 1), 1),
)
_CLIENT: Final = StateRecord(
    ClientState,
    state_field("role", choice((Role.CLIENT,))),
    state_field("held", octets(MAX_STATE_BYTES), b""),
    state_field("over", FLAG, False),
    state_field("asked", mapping(_SEQID, _DIALECT, MAX_STATE_BYTES), {}),
    state_field("oneways", sequence(_SEQID, MAX_ONEWAYS), []),
    state_field("last_id", number(0, MASK >> 1), 0),
)

# In version 2 these were the fields, by their place.
_SERVER_PLACES: Final = (
    "role",
    "held",
    "over",
    "refused",
    "waiting",
    "ordered",
    "highest",
    "spare",
)
_CLIENT_PLACES: Final = ("role", "held", "over", "asked", "oneways", "last_id")
_WAITING_PLACES: Final = ("id", "inner", "dialect", "name", "flags", "ready")


def _waiting_2(found: object) -> object:
    """Return the map of a call that waited, as version 2 wrote it."""
    if type(found) is not list:
        raise ValueError("has another call")
    call = by_place(_WAITING_PLACES, found)
    call["extra"] = {name: call.pop(name) for name in ("dialect", "name", "flags")}
    if call["ready"] is None:
        del call["ready"]
    return call


def _read_server_2(parts: list[object]) -> ServerState:
    fields = by_place(_SERVER_PLACES, parts)
    waiting = fields["waiting"]
    if type(waiting) is list:
        fields["waiting"] = [_waiting_2(call) for call in waiting]
    return _SERVER.read(fields)


def _read_client_2(parts: list[object]) -> ClientState:
    return _CLIENT.read(by_place(_CLIENT_PLACES, parts))


SERVER: Final = StateSchema(CODEC, VERSION, _SERVER, {2: _read_server_2})
CLIENT: Final = StateSchema(CODEC, VERSION, _CLIENT, {2: _read_client_2})
