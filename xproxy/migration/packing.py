"""What is written of a connection, as bytes: values of a closed set of classes, by the names of their fields.

Rules of this file:

* Only the classes of ``KNOWN`` are written and read, and in them only None, bool, int, float, str, bytes, tuples,
  sockets and one another. Nothing else is made of what is read, and nothing is called but these classes.
* What a field may hold is what its annotation says, and is checked. A field at its default is not written, so that a
  later release may add one; an unknown one is refused.
* A socket goes as a descriptor beside the bytes, which have its number among them.
* Thousands of connections go in a row while others wait for their turns. So what is plain is looked at where it
  stands, and what connections have in common (``COMMON``) is written and read once, not for each of them.
"""

from __future__ import annotations

import socket
import typing
from collections.abc import Callable, Mapping, Sequence
from itertools import compress
from operator import attrgetter, is_not
from typing import Final

import attrs
import msgpack

from xproxy.connection.flowing import (
    Answer,
    Asked,
    FlowingExchange,
    Half,
    PastAttempt,
    Piece,
    Told,
    UpstreamEnd,
)
from xproxy.connection.standing import Moment, OlderLink, RelayedStream
from xproxy.connection.wire import Parts
from xproxy.migration.annotations import PLAIN, Check, check_of, kinds_of
from xproxy.model.address import Address
from xproxy.model.limits import Limits
from xproxy.model.message import Rpc, Target
from xproxy.proxy.adopting import Accepted, Described
from xproxy.proxy.opening_moment import OpeningMoment
from xproxy.stream.links import Note
from xproxy.transport.channel import MAX_STATE_BYTES
from xproxy.upstream.moving import Handed

_TUPLE: Final = 0
_RECORD: Final = 1
_SOCKET: Final = 2
_MOST_DEEP: Final = 32
COMMON: Final = frozenset(
    {("Described", "options"), ("Described", "limits"), ("Described", "address")}
)
"""Fields whose values are plain all through, and the same for all connections of a listener."""
MOST_COMMON: Final = 64
"""Such values that are remembered at a time; one more, and all are forgotten …"""
MOST_COMMON_BYTES: Final = 4096
"""… and bytes of one that was read: a longer one is read anew each time."""


@attrs.frozen(kw_only=True)
class Downstream:
    """A downstream connection."""

    described: Described
    moment: Moment
    bound: tuple[Upstream, ...] = ()
    """Connections to endpoints that are its own, and go along."""


@attrs.frozen(kw_only=True)
class Undetected:
    """A client's connection whose protocol is not known yet."""

    accepted: Accepted
    opening: OpeningMoment


@attrs.frozen(kw_only=True)
class Upstream:
    """A connection to an endpoint that nobody uses."""

    cluster: str
    address: Address
    settings: bytes
    """A digest of what the cluster says about its connections: where it is another one there, it is not taken."""
    handed: Handed


KNOWN: Final[tuple[type, ...]] = (
    Downstream,
    Undetected,
    Accepted,
    OpeningMoment,
    RelayedStream,
    OlderLink,
    Upstream,
    Described,
    Moment,
    FlowingExchange,
    UpstreamEnd,
    Half,
    Piece,
    Note,
    Asked,
    Target,
    Rpc,
    Answer,
    Told,
    PastAttempt,
    Parts,
    Handed,
    Limits,
    Address,
)
"""By their names, which are never used again for anything else."""


@attrs.frozen(eq=False)
class _Field:
    name: str
    default: object
    kinds: frozenset[type]
    """A value of one of these classes is one …"""
    check: Check | None
    """… and any other must be asked about; None: it is none."""
    common: bool


def _fields(cls: type) -> dict[str, _Field]:
    hints = typing.get_type_hints(cls)
    return {
        field.name: _field(cls, field.name, field.default, hints[field.name])
        for field in attrs.fields(cls)
        if field.init
    }


def _field(cls: type, name: str, default: object, annotation: object) -> _Field:
    check = check_of(annotation)
    kinds = kinds_of(annotation)
    common = (cls.__name__, name) in COMMON
    return _Field(name, default, kinds or frozenset(), None if kinds else check, common)


_WHOLE: Final = PLAIN | {float}
"""What msgpack writes and reads as it is."""
_BY_NAME: Final = {cls.__name__: cls for cls in KNOWN}
_FIELDS: Final[Mapping[type, dict[str, _Field]]] = {cls: _fields(cls) for cls in KNOWN}
_REQUIRED: Final = {
    cls: frozenset(name for name, field in fields.items() if field.default is attrs.NOTHING)
    for cls, fields in _FIELDS.items()
}


def _getter(cls: type) -> Callable[[object], tuple[object, ...]]:
    first, *more = _FIELDS[cls]
    if more:
        return attrgetter(first, *more)
    return lambda value: (getattr(value, first),)


_DEFAULTS: Final = {
    cls: tuple(field.default for field in fields.values()) for cls, fields in _FIELDS.items()
}
_VALUES: Final = {cls: _getter(cls) for cls in KNOWN}
"""All fields of an object, in their order."""


def pack(value: object) -> tuple[bytes, list[socket.socket]]:
    """Return a value for ``unpack``, and the sockets that go with it. Raises ValueError for what cannot go."""
    sockets: list[socket.socket] = []
    try:
        packed: bytes = msgpack.packb(_write(value, sockets, 0))
    except (TypeError, OverflowError) as exc:
        raise ValueError(f"cannot be written down: {exc}") from exc
    if len(packed) > MAX_STATE_BYTES:
        raise ValueError(f"is {len(packed)} bytes, limit {MAX_STATE_BYTES}")
    return packed, sockets


def _write(value: object, sockets: list[socket.socket], depth: int) -> object:
    kind = type(value)
    if kind in _WHOLE:
        return value
    if depth > _MOST_DEEP:
        raise ValueError("cannot be written down: it is too deep")
    depth += 1
    if kind is tuple:
        assert isinstance(value, tuple)
        return [
            _TUPLE,
            *[item if type(item) in _WHOLE else _write(item, sockets, depth) for item in value],
        ]
    if isinstance(value, socket.socket):
        sockets.append(value)
        return [_SOCKET, len(sockets) - 1]
    fields = _FIELDS.get(kind)
    if fields is None:
        raise ValueError(f"cannot be written down: it holds a {kind.__name__}")
    written: dict[str, object] = {}
    items = _VALUES[kind](value)
    # Most fields are at their defaults: those are passed over before any code of ours runs.
    told = compress(zip(fields.values(), items, strict=True), map(is_not, items, _DEFAULTS[kind]))
    for field, item in told:
        of = type(item)
        if of is type(field.default) and item == field.default:
            continue
        if of in _WHOLE:
            written[field.name] = item
        elif field.common:
            written[field.name] = _WRITTEN.write(item, depth)
        else:
            written[field.name] = _write(item, sockets, depth)
    return [_RECORD, kind.__name__, written]


class _Written:
    """What is written of values that many connections have, by their identity: they never change."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[object, object]] = {}

    def write(self, value: object, depth: int) -> object:
        known = self._known.get(id(value))
        if known is not None:
            return known[1]
        sockets: list[socket.socket] = []
        written = _write(value, sockets, depth)
        if sockets:
            raise ValueError("cannot be written down: it holds a socket")
        if len(self._known) >= MOST_COMMON:
            self._known.clear()
        self._known[id(value)] = (
            value,
            written,
        )  # as long as it is here, nothing else has its identity
        return written


_WRITTEN: Final = _Written()


def unpack(
    data: bytes, sockets: Sequence[socket.socket] = (), *, missing: bool = False
) -> Downstream | Undetected | Upstream:
    """Return what ``pack`` was given. Raises ValueError for anything else, whoever sent it.

    ``missing``: there are no sockets, and None stands in their place.
    """
    value = read(data, sockets, missing=missing)
    if not isinstance(value, Downstream | Undetected | Upstream):
        raise ValueError("is no connection that was written down")
    return value


def read(data: bytes, sockets: Sequence[socket.socket] = (), *, missing: bool = False) -> object:
    """The same for any value that can be written down."""
    try:
        found: object = msgpack.unpackb(data, strict_map_key=True, ext_hook=_refuse)
    except (ValueError, TypeError, RecursionError, OverflowError, msgpack.UnpackException) as exc:
        raise ValueError("nothing that was written of a connection") from exc
    reader = _Reader(sockets, missing=missing)
    value = reader.read(found, 0)
    if len(reader.used) != len(sockets):
        raise ValueError(f"has {len(reader.used)} sockets, and {len(sockets)} came")
    return value


class _Reader:
    def __init__(self, sockets: Sequence[socket.socket], *, missing: bool) -> None:
        self.used: set[int] = set()
        self._sockets = sockets
        self._missing = missing

    def read(self, found: object, depth: int) -> object:
        if type(found) in _WHOLE:
            return found
        if type(found) is not list or not found or depth > _MOST_DEEP:
            raise ValueError("holds what nothing was written as")
        what = found[0]
        if what == _TUPLE:
            depth += 1
            return tuple(
                [item if type(item) in _WHOLE else self.read(item, depth) for item in found[1:]]
            )
        if what == _SOCKET and len(found) == 2:
            return self._socket(found[1])
        if what != _RECORD or len(found) != 3 or type(found[1]) is not str:
            raise ValueError("holds what nothing was written as")
        cls = _BY_NAME.get(found[1])
        if cls is None or type(found[2]) is not dict:
            raise ValueError(f"holds an unknown {found[1][:40]!r}")
        return self._record(cls, found[2], depth + 1)

    def _socket(self, number: object) -> socket.socket | None:
        if self._missing:
            return None
        if type(number) is not int or not 0 <= number < len(self._sockets) or number in self.used:
            raise ValueError("has a socket that did not come")
        self.used.add(number)
        return self._sockets[number]

    def _record(self, cls: type, found: dict[object, object], depth: int) -> object:
        fields, values = _FIELDS[cls], dict[str, object]()
        for name, item in found.items():
            field = fields.get(name) if type(name) is str else None
            if field is None:
                raise ValueError(f"{cls.__name__} has an unknown field {str(name)[:40]!r}")
            if field.common:
                values[field.name] = _READ.read(cls, field, item, depth)
                continue
            value = item if type(item) in _WHOLE else self.read(item, depth)
            if type(value) not in field.kinds and (field.check is None or not field.check(value)):
                raise _is_none(cls, field)
            values[field.name] = value
        if not values.keys() >= _REQUIRED[cls]:
            raise ValueError(f"{cls.__name__} lacks {min(_REQUIRED[cls] - values.keys())}")
        try:
            made: object = cls(**values)
        except TypeError as exc:
            raise ValueError(f"{cls.__name__} cannot be made: {exc}") from exc
        return made


def _is_none(cls: type, field: _Field) -> ValueError:
    return ValueError(f"{cls.__name__} has a {field.name} that is none")


class _Read:
    """What was read and checked of values that many connections have, by their bytes."""

    def __init__(self) -> None:
        self._known: dict[tuple[_Field, bytes], object] = {}

    def read(self, cls: type, field: _Field, found: object, depth: int) -> object:
        data: bytes = msgpack.packb(found)
        known = self._known.get((field, data))
        if known is not None:
            return known
        value = _Reader((), missing=False).read(found, depth)
        if type(value) not in field.kinds and (field.check is None or not field.check(value)):
            raise _is_none(cls, field)
        if len(data) <= MOST_COMMON_BYTES:
            if len(self._known) >= MOST_COMMON:
                self._known.clear()
            self._known[field, data] = value
        return value


_READ: Final = _Read()


def _refuse(code: int, _data: bytes) -> object:
    raise ValueError(f"an extension type: {code}")
