"""What is written of a connection, as bytes: values of a closed set of classes, by the names of their fields.

Rules of this file:

* Only the classes of ``KNOWN`` are written and read, and in them only None, bool, int, float, str, bytes, tuples,
  sockets and one another. Nothing else is made of what is read, and nothing is called but these classes.
* What a field may hold is what its annotation says, and is checked. A field at its default is not written, so that a
  later release may add one; an unknown one is refused.
* A socket goes as a descriptor beside the bytes, which have its number among them.
"""

from __future__ import annotations

import math
import socket
import types
import typing
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Final, TypeAlias

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
from xproxy.model.address import Address
from xproxy.model.limits import Limits
from xproxy.model.message import Rpc, Target
from xproxy.proxy.adopting import Accepted, Described
from xproxy.proxy.opening_moment import OpeningMoment
from xproxy.stream.links import Note
from xproxy.transport.channel import MAX_STATE_BYTES
from xproxy.upstream.moving import Handed

Check: TypeAlias = Callable[[object], bool]

_TUPLE: Final = 0
_RECORD: Final = 1
_SOCKET: Final = 2
_MOST_DEEP: Final = 32


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


@attrs.frozen
class _Field:
    name: str
    default: object
    check: Check


def _fields(cls: type) -> dict[str, _Field]:
    hints = typing.get_type_hints(cls)
    return {
        field.name: _Field(field.name, field.default, check_of(hints[field.name]))
        for field in attrs.fields(cls)
        if field.init
    }


def check_of(annotation: object) -> Check:
    """Return what tells whether a value is such a one. Raises TypeError for what nothing here can be."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in (object, Hashable, typing.Any):
        return lambda _: True
    if annotation is float:
        return lambda value: type(value) is float and not math.isnan(value)
    if isinstance(annotation, typing.NewType):
        return check_of(annotation.__supertype__)
    if isinstance(annotation, type) and (annotation in _PLAIN or attrs.has(annotation)):
        return lambda value: type(value) is annotation
    if annotation is socket.socket:
        return lambda value: isinstance(value, socket.socket)
    if origin in (typing.Union, types.UnionType):
        checks = [check_of(one) for one in arguments]
        return lambda value: any(check(value) for check in checks)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        of = check_of(arguments[0])
        return lambda value: type(value) is tuple and all(of(item) for item in value)
    if origin is tuple:
        each = [check_of(one) for one in arguments]
        return lambda value: (
            type(value) is tuple
            and len(value) == len(each)
            and all(check(item) for check, item in zip(each, value, strict=True))
        )
    raise TypeError(f"nothing that is written down can be a {annotation}")


_PLAIN: Final = frozenset({type(None), bool, int, str, bytes})
_BY_NAME: Final = {cls.__name__: cls for cls in KNOWN}
_FIELDS: Final[Mapping[type, dict[str, _Field]]] = {cls: _fields(cls) for cls in KNOWN}
_REQUIRED: Final = {
    cls: frozenset(name for name, field in fields.items() if field.default is attrs.NOTHING)
    for cls, fields in _FIELDS.items()
}


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
    if kind in _PLAIN or kind is float:
        return value
    if depth > _MOST_DEEP:
        raise ValueError("cannot be written down: it is too deep")
    if kind is tuple:
        assert isinstance(value, tuple)
        return [_TUPLE, *(_write(item, sockets, depth + 1) for item in value)]
    if isinstance(value, socket.socket):
        sockets.append(value)
        return [_SOCKET, len(sockets) - 1]
    fields = _FIELDS.get(kind)
    if fields is None:
        raise ValueError(f"cannot be written down: it holds a {kind.__name__}")
    written: dict[str, object] = {}
    for name, field in fields.items():
        item: object = getattr(value, name)
        if item is not field.default and (
            type(item) is not type(field.default) or item != field.default
        ):
            written[name] = _write(item, sockets, depth + 1)
    return [_RECORD, kind.__name__, written]


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
        if type(found) in _PLAIN or type(found) is float:
            return found
        if type(found) is not list or not found or depth > _MOST_DEEP:
            raise ValueError("holds what nothing was written as")
        if found[0] == _TUPLE:
            return tuple(self.read(item, depth + 1) for item in found[1:])
        if found[0] == _SOCKET and len(found) == 2:
            return self._socket(found[1])
        if found[0] != _RECORD or len(found) != 3 or type(found[1]) is not str:
            raise ValueError("holds what nothing was written as")
        cls = _BY_NAME.get(found[1])
        if cls is None or type(found[2]) is not dict:
            raise ValueError(f"holds an unknown {found[1][:40]!r}")
        return self._record(cls, found[2], depth)

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
            value = self.read(item, depth + 1)
            if not field.check(value):
                raise ValueError(f"{cls.__name__} has a {field.name} that is none")
            values[field.name] = value
        missing = _REQUIRED[cls] - values.keys()
        if missing:
            raise ValueError(f"{cls.__name__} lacks {min(missing)}")
        try:
            made: object = cls(**values)
        except TypeError as exc:
            raise ValueError(f"{cls.__name__} cannot be made: {exc}") from exc
        return made


def _refuse(code: int, _data: bytes) -> object:
    raise ValueError(f"an extension type: {code}")
