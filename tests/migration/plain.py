"""Moments as another process gets them: nothing but plain bytes, but for their socket."""

from __future__ import annotations

import socket
from typing import Any, Final, TypeVar

import attrs
import msgpack

from xproxy.connection.standing import Moment
from xproxy.connection.wire import Parts
from xproxy.proxy.opening_moment import OpeningMoment

_KNOWN: Final[dict[str, type]] = {cls.__name__: cls for cls in (Moment, Parts, OpeningMoment)}
_PLAIN: Final = (bytes, str, int, float, bool, type(None))
T = TypeVar("T", Moment, OpeningMoment)


def through_bytes(moment: T) -> T:
    """Return what is made of a moment that was written down and read. Its socket stays behind.

    Raises AssertionError for what cannot be written down.
    """
    made = _read(msgpack.unpackb(msgpack.packb(_written(moment))))
    assert type(made) is type(moment)
    assert made == attrs.evolve(moment, sock=None)
    return made


def _written(value: object) -> object:  # a record is its name and fields, a tuple nameless
    if isinstance(value, socket.socket):
        return None
    cls = type(value)
    if attrs.has(cls):
        assert _KNOWN.get(cls.__name__) is cls, f"a {cls.__name__} cannot go to another process"
        return [cls.__name__, {f.name: _written(getattr(value, f.name)) for f in attrs.fields(cls)}]
    if type(value) is tuple:
        return ["", [_written(item) for item in value]]
    assert type(value) in _PLAIN, f"a {type(value).__name__} cannot go to another process"
    return value


def _read(value: Any) -> Any:  # Any: whatever msgpack gives
    if isinstance(value, list):
        name, fields = value
        if not name:
            return tuple(_read(item) for item in fields)
        return _KNOWN[name](**{key: _read(item) for key, item in fields.items()})
    return value
