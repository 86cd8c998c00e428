"""The arguments of a call by name, for routes and logs that ask.

Nothing is read before somebody asks, and then once. Scalars show as text, and so do the scalars of structs inside, by
their path (``user.id``); lists, sets, maps and ``binary`` do not. What cannot be read shows nothing: the call itself
is passed on as it is, whatever its arguments are.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from struct import Struct
from typing import Any, Final, final

from xproxy.codecs.slices import Work, at_once
from xproxy.codecs.thrift.dialect import Dialect
from xproxy.codecs.thrift.encoding import looked_within
from xproxy.codecs.thrift.interface import Shape
from xproxy.codecs.thrift.json_values import TYPES, parsed
from xproxy.codecs.thrift.values import (
    BOOL,
    DOUBLE,
    INTEGERS,
    UUID,
    BinaryReader,
    CompactReader,
    Reader,
)
from xproxy.codecs.thrift.walker import LIST, MAP, SET, STOP, STRING, STRUCT

MAX_SHOWN: Final = 256
"""Arguments that show; those after them do not."""
MAX_TEXT_BYTES: Final = 8 * 1024
"""Longer texts do not show."""
MAX_WALKED_BYTES: Final = 256 * 1024
"""Calls that take looking at more bytes show nothing; those of long strings and of lists of numbers do not count."""
MAX_FIELDS: Final = 4096
"""Arguments, and fields of them, that are looked at; those after them do not show."""

_FIELDS_AT_ONCE: Final = 256
"""Of a slice."""
_NESTED: Final = frozenset({STRUCT, LIST, SET, MAP})

_double_of: Final = Struct(">d").unpack


class _Enough(Exception):
    """There are ``MAX_SHOWN``, or too many to look at."""


@final
class Arguments:
    """See ``model.message.Arguments``."""

    __slots__ = ("_data", "_dialect", "_shape", "_texts")

    def __init__(self, data: bytes, dialect: Dialect, shape: Shape) -> None:
        """Promise the arguments in ``data``, a struct of ``shape``."""
        self._data: bytes | None = data
        self._dialect = dialect
        self._shape = shape
        self._texts: dict[str, str] = {}

    def get(self, name: str) -> str | None:
        """Return an argument as text, or None. Total."""
        if self._data is not None:
            at_once(self.reading())
        return self._texts.get(name)

    def reading(self) -> Work[None]:
        """Return the work of reading them before somebody asks: for long ones, which no head should keep."""
        data, self._data = self._data, None
        if data is not None:
            self._texts = yield from read_arguments(data, self._dialect, self._shape)

    def __repr__(self) -> str:
        return "Arguments()"  # a peer's payload is in no log


def read_arguments(data: bytes, dialect: Dialect, shape: Shape) -> Work[dict[str, str]]:
    """Return all that show, after a look at some KiB in each slice. Total."""
    found: dict[str, str] = {}
    encoding = dialect.encoding
    try:
        if encoding.family == "json":
            _show_json(parsed(data), shape, "", found)
        elif (yield from looked_within(encoding, data, MAX_WALKED_BYTES)):
            reader = BinaryReader(data) if encoding.family == "binary" else CompactReader(data)
            reader.enter()
            yield from _show(reader, shape, "", found, iter(range(MAX_FIELDS)))
    except _Enough:
        pass
    except ValueError:
        found.clear()
    return found


def _show(
    reader: Reader, shape: Shape, prefix: str, found: dict[str, str], left: Iterator[int]
) -> Work[None]:
    """Read a struct that was walked before: so it is not too deep for this."""
    for place in left:
        if place % _FIELDS_AT_ONCE == _FIELDS_AT_ONCE - 1:
            yield
        kind, number = reader.field()
        if kind == STOP:
            reader.leave()
            return
        name, inner = shape.fields.get(number, ("", None))
        if kind in _NESTED and (inner is None or inner.kind != kind or kind != STRUCT):
            yield from reader.skip(kind)
        elif kind == STRUCT:
            assert inner is not None  # else it was skipped
            reader.enter()
            yield from _show(reader, inner, f"{prefix}{name}.", found, left)
        elif inner is None or inner.kind != kind:
            _scalar(reader, kind)
        else:
            text = _text(_scalar(reader, kind), inner)
            if text is not None:
                _add(found, prefix + name, text)
    raise _Enough


def _add(found: dict[str, str], name: str, text: str) -> None:
    if len(found) == MAX_SHOWN:
        raise _Enough
    found[name] = text


def _scalar(reader: Reader, kind: int) -> object:
    if kind == STRING:
        return reader.text()
    if kind in INTEGERS:
        return reader.integer(kind)
    if kind == BOOL:
        return reader.boolean()
    if kind == DOUBLE:
        return _double_of(reader.double())[0]
    if kind == UUID:
        return str(uuid.UUID(bytes=reader.raw(16))).encode()
    return int.from_bytes(reader.raw(1), signed=True)


def _text(value: object, shape: Shape) -> str | None:
    if isinstance(value, bytes):
        if shape.binary or len(value) > MAX_TEXT_BYTES:
            return None
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return shape.members.get(value) or str(value)
    return repr(value)


def _show_json(
    struct: dict[str, Any],  # Any: parsed JSON
    shape: Shape,
    prefix: str,
    found: dict[str, str],
) -> None:
    for number, (name, inner) in shape.fields.items():
        field = struct.get(str(number))
        if not isinstance(field, dict) or len(field) != 1:
            continue
        ((label, value),) = field.items()
        if TYPES.get(label) != inner.kind:
            continue
        if inner.kind == STRUCT and isinstance(value, dict):
            _show_json(value, inner, f"{prefix}{name}.", found)
            continue
        if inner.kind == STRING and isinstance(value, str):
            text = _text(value.encode("utf-8", "surrogatepass"), inner)
        elif inner.kind == UUID and isinstance(value, str):
            text = str(uuid.UUID(value))
        elif inner.kind == BOOL and value in (0, 1):
            text = _text(bool(value), inner)
        elif inner.kind == DOUBLE and isinstance(value, int | float):
            text = _text(float(value), inner)
        elif type(value) is int:
            text = _text(value, inner)
        else:
            continue
        if text is not None:
            _add(found, prefix + name, text)
