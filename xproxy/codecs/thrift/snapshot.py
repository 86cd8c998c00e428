"""A codec's state as versioned msgpack, and back.

Rule of this file: what is read may come from anybody. It either describes a state that a codec of this role can be
in, within the limits, or it raises ValueError. A message under way is walked again from its start: the walker's own
state is not written down.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

import attrs

from xproxy.codecs.packing import pack_state, unpack_state
from xproxy.codecs.thrift.dialect import DIALECTS, Dialect
from xproxy.codecs.thrift.encoding import MASK, MAX_NAME_BYTES, is_name
from xproxy.codecs.thrift.message import CODEC, ThriftExtra
from xproxy.codecs.thrift.state import MAX_ONEWAYS, SPARE, Waiting
from xproxy.model.traits import Role

VERSION: Final = 2
_SERVER_TYPES: Final = (str, bytes, bool, int, list, bool, int, int)
_CLIENT_TYPES: Final = (str, bytes, bool, dict, list, int)
_WAITING_TYPES: Final = (int, int, int, bytes, int)


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


@attrs.frozen
class ClientState:
    """Everything that a client codec's future depends on, besides its limits."""

    held: bytes
    over: bool
    asked: Mapping[int, Dialect]
    """Calls that wait for an answer, by sequence id."""
    oneways: tuple[int, ...] = ()
    """Sequence ids of oneway calls, oldest first."""
    last_id: int = 0
    """The last sequence id that the codec gave itself; 0: none yet."""


def pack_server(state: ServerState) -> bytes:
    """Write a server's state down."""
    waiting = [
        [
            call.stream_id,
            call.inner,
            call.extra.dialect.number,
            call.extra.wire_name,
            call.extra.flags,
            call.ready,
        ]
        for call in state.waiting
    ]
    return pack_state(
        CODEC,
        VERSION,
        (
            Role.SERVER.value,
            state.held,
            state.over,
            state.refused,
            waiting,
            state.ordered,
            state.highest,
            state.spare,
        ),
    )


def pack_client(state: ClientState) -> bytes:
    """Write a client's state down."""
    asked = {seqid: dialect.number for seqid, dialect in state.asked.items()}
    fields = (Role.CLIENT.value, state.held, state.over, asked, list(state.oneways), state.last_id)
    return pack_state(CODEC, VERSION, fields)


def unpack_server(data: bytes) -> ServerState:
    """Read a server's state. Raises ValueError for anything else."""
    fields = unpack_state(CODEC, VERSION, _SERVER_TYPES, data)
    role, held, over, refused, waiting, ordered, highest, spare = fields
    _check(role == Role.SERVER.value, "role")
    # casts: unpack_state has checked each of them
    _check(0 < cast("int", spare) < SPARE and cast("int", refused) >= 0, "number")
    _check(-1 <= cast("int", highest) <= MASK, "highest id")
    _check(not (over and held), "held")
    return ServerState(
        cast("bytes", held),
        cast("bool", over),
        cast("int", refused),
        [_waiting(call) for call in cast("list[object]", waiting)],
        cast("bool", ordered),
        cast("int", highest),
        cast("int", spare),
    )


def _waiting(call: object) -> Waiting:
    if not isinstance(call, list) or [type(field) for field in call[:-1]] != [*_WAITING_TYPES]:
        raise ValueError(f"a snapshot of {CODEC} has other calls")
    stream_id, inner, number, name, flags, ready = call
    _check(ready is None or type(ready) is bytes, "answer")
    _check(stream_id >= 0 and 0 <= inner <= MASK, "id")
    _check(0 < len(name) <= MAX_NAME_BYTES and is_name(name), "name")
    _check(0 <= flags <= 0xFFFF, "flags")
    extra = ThriftExtra(_dialect(number), name.decode(), flags=flags)
    return Waiting(stream_id, inner, extra, ready)


def unpack_client(data: bytes) -> ClientState:
    """Read a client's state. Raises ValueError for anything else."""
    fields = unpack_state(CODEC, VERSION, _CLIENT_TYPES, data)
    role, held, over, asked, oneways, last_id = fields
    _check(role == Role.CLIENT.value, "role")
    _check(not (over and held), "held")
    waiting: dict[int, Dialect] = {}
    for seqid, number in cast("dict[object, object]", asked).items():
        if type(seqid) is not int or type(number) is not int:
            raise ValueError(f"a snapshot of {CODEC} has other calls")
        _check(0 <= seqid <= MASK, "id")
        waiting[seqid] = _dialect(number)
    told: list[int] = []
    for seqid in cast("list[object]", oneways):
        if type(seqid) is not int or not 0 <= seqid <= MASK or seqid in waiting:
            raise ValueError(f"a snapshot of {CODEC} has other oneway calls")
        told.append(seqid)
    _check(len(told) <= MAX_ONEWAYS, "number of oneway calls")
    _check(0 <= cast("int", last_id) <= MASK >> 1, "last id")
    return ClientState(
        cast("bytes", held), cast("bool", over), waiting, tuple(told), cast("int", last_id)
    )


def _dialect(number: int) -> Dialect:
    _check(0 <= number < len(DIALECTS), "dialect")
    return DIALECTS[number]


def _check(right: bool, what: str) -> None:
    if not right:
        raise ValueError(f"a snapshot of {CODEC} has another {what}")
