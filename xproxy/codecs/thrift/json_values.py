"""Values of the JSON protocol (thrift: TJSONProtocol).

A field is ``"id":{"type":value}``, a list ``["type",count,…]``, a map ``["type","type",count,{…}]`` with all keys in
quotes. Bytes are written in base64, in a string like any other: only an interface tells which strings those are.
Recursion here is as deep as the values are, which a walk has checked before.
"""

from __future__ import annotations

import base64
import json
import math
import re
import struct
import uuid
from collections.abc import Mapping
from typing import Any, Final

from xproxy.codecs.slices import Work
from xproxy.codecs.thrift import walker as b
from xproxy.codecs.thrift.encoding import is_struct
from xproxy.codecs.thrift.interface import Shape
from xproxy.codecs.thrift.json_text import JsonEncoding
from xproxy.codecs.thrift.values import BOOL, BYTE, DOUBLE, I16, I64, UUID, Reader, Writer

MAX_JSON_BYTES: Final = 1 << 20
"""Longer structs are passed on, not read: parsed, they take twenty times their size."""

MAX_JSON_VALUES: Final = 50_000
"""Likewise, of structs with more values: parsed, which cannot be interrupted, so many take some 20 ms."""
_AT_ONCE: Final = 256
"""Values that are written before others may have their turn: some 0.3 ms."""

TYPES: Final[Mapping[str, int]] = {
    "tf": BOOL,
    "i8": BYTE,
    "dbl": DOUBLE,
    "i16": I16,
    "i32": b.I32,
    "i64": I64,
    "str": b.STRING,
    "rec": b.STRUCT,
    "map": b.MAP,
    "set": b.SET,
    "lst": b.LIST,
    "uid": UUID,
}
"""What JSON calls the types."""
_NESTED: Final = frozenset({b.STRUCT, b.LIST, b.SET, b.MAP})
_NAMES: Final = {kind: name for name, kind in TYPES.items()}
_BITS: Final = {BYTE: 8, I16: 16, b.I32: 32, I64: 64}
_NUMBER: Final = re.compile(r"-?\d{1,20}")
_DOUBLE: Final = struct.Struct(">d")
_JSON: Final = JsonEncoding()

_UNTOLD: Final = "which strings are binary, only the interface tells (option idl)"


def parsed(data: bytes) -> dict[str, Any]:  # Any: what JSON may hold
    """Return a struct as JSON has it. Raises ValueError."""
    if len(data) > MAX_JSON_BYTES:
        raise ValueError(f"a struct of {len(data)} bytes, limit {MAX_JSON_BYTES}")
    values = data.count(b",") + data.count(b"{")
    if values > MAX_JSON_VALUES:
        raise ValueError(f"a struct of {values} values, limit {MAX_JSON_VALUES}")
    if not is_struct(_JSON, data):
        raise ValueError("no struct of the JSON protocol")
    # Not strict: PyPI's thrift writes control characters as they are.
    tree: dict[str, Any] = json.loads(  # Any: as above
        data, strict=False, object_pairs_hook=_unambiguous
    )
    return tree


def _unambiguous(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field, or a key, that is there twice")
    return found


def write_struct(writer: Writer, tree: object, shape: Shape | None) -> Work[None]:
    """Write what ``parsed`` gave, and pause now and then.

    Raises ValueError for what is no value of its type, and for untold strings.
    """
    if not isinstance(tree, dict):
        raise ValueError("a struct that is none")
    for label, field in tree.items():
        number = _integer(label, I16)
        if not isinstance(field, dict) or len(field) != 1:
            raise ValueError("a field without its type")
        ((name, value),) = field.items()
        kind = _kind(name)
        inner = shape.fields.get(number) if shape is not None else None
        writer.field(kind, number)
        if kind in _NESTED:
            yield from _write_nested(writer, kind, value, inner[1] if inner is not None else None)
        else:
            _write(writer, kind, value, inner[1] if inner is not None else None)
    writer.leave()


def _kind(name: object) -> int:
    kind = TYPES.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ValueError("a type that JSON does not have")
    return kind


def _write_nested(writer: Writer, kind: int, value: object, shape: Shape | None) -> Work[None]:
    if shape is not None and shape.kind != kind:
        shape = None
    if kind == b.STRUCT:
        writer.enter()
        yield from write_struct(writer, value, shape)
        return
    if kind == b.MAP:
        (key, element), items = _items(value, 2)
        writer.map_head(key, element, len(items) // 2)
        shapes = (shape.key, shape.element) if shape is not None else (None, None)
    else:
        (element,), items = _items(value, 1)
        key = element
        writer.list_head(element, len(items))
        shapes = (shape.element, shape.element) if shape is not None else (None, None)
    kinds = key, element
    for index, item in enumerate(items):
        one = kinds[index % 2]
        if one in _NESTED:
            yield from _write_nested(writer, one, item, shapes[index % 2])
        else:
            _write(writer, one, item, shapes[index % 2])
        if not index % _AT_ONCE:
            yield


def _write(writer: Writer, kind: int, value: object, shape: Shape | None) -> None:
    if shape is not None and shape.kind != kind:
        shape = None
    if kind == b.STRING:
        writer.text(_bytes(value, shape))
    elif kind == BOOL:
        if value not in (0, 1, "0", "1"):
            raise ValueError("a bool that is none")
        writer.boolean(value in (1, "1"))
    elif kind == DOUBLE:
        if not isinstance(value, int | float | str):
            raise ValueError("a double that is none")
        writer.double(_DOUBLE.pack(float(value)))
    elif kind == UUID:
        writer.raw(uuid.UUID(str(value)).bytes)
    elif kind == BYTE:
        writer.raw(_integer(value, kind).to_bytes(1, signed=True))
    else:
        writer.integer(kind, _integer(value, kind))


def _items(value: object, types: int) -> tuple[list[int], list[object]]:
    """Return the types of a list or a map, and its items; of a map, keys and values in turn."""
    if not isinstance(value, list) or len(value) <= types:
        raise ValueError("a container that is none")
    kinds, count, rest = [_kind(name) for name in value[:types]], value[types], value[types + 1 :]
    if types == 2:
        if len(rest) != 1 or not isinstance(rest[0], dict):
            raise ValueError("a map that is none")
        found = len(rest[0])
        items: list[object] = [part for pair in rest[0].items() for part in pair]
    else:
        items, found = rest, len(rest)
    if type(count) is not int or count != found:
        raise ValueError("a container of another size than it says")
    return kinds, items


def _integer(value: object, kind: int) -> int:
    # Keys of maps, and ids of fields, are numbers in quotes.
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = int(value)
    if type(value) is not int or not -(1 << _BITS[kind] - 1) <= value < 1 << _BITS[kind] - 1:
        raise ValueError(f"a number that is none of {_BITS[kind]} bits")
    return value


def _bytes(value: object, shape: Shape | None) -> bytes:
    if not isinstance(value, str):
        raise ValueError("a string that is none")
    if shape is None:
        raise ValueError(_UNTOLD)
    if shape.binary:
        # Some peers leave out the padding.
        return base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    return value.encode()


def to_json(reader: Reader, shape: Shape | None, limit: int) -> Work[bytes]:
    """Write a struct, which was walked before. Raises ValueError, also above ``limit`` bytes."""
    text = _Text(limit)
    yield from _struct(reader, shape, text)
    return "".join(text.parts).encode()


class _Text:
    """What was written so far."""

    def __init__(self, limit: int) -> None:
        self.parts: list[str] = []
        self._left = limit
        self._many = _AT_ONCE

    def add(self, part: str) -> None:
        self._left -= len(part) if part.isascii() else len(part.encode())
        if self._left < 0:
            raise ValueError("too long")
        self.parts.append(part)

    def many(self) -> bool:
        """Count a value; whether it is time to let others run."""
        self._many -= 1
        if self._many:
            return False
        self._many = _AT_ONCE
        return True


def _struct(reader: Reader, shape: Shape | None, text: _Text) -> Work[None]:
    text.add("{")
    comma = ""
    while True:
        kind, number = reader.field()
        if kind == b.STOP:
            reader.leave()
            text.add("}")
            return
        inner = shape.fields.get(number) if shape is not None else None
        text.add(f'{comma}"{number}":{{"{_NAMES[kind]}":')
        if kind in _NESTED:
            yield from _nested(reader, kind, inner[1] if inner is not None else None, text)
        else:
            text.add(_scalar(reader, kind, inner[1] if inner is not None else None))
        if text.many():
            yield
        text.add("}")
        comma = ","


def _nested(reader: Reader, kind: int, shape: Shape | None, text: _Text) -> Work[None]:
    if shape is not None and shape.kind != kind:
        shape = None
    if kind == b.STRUCT:
        reader.enter()
        yield from _struct(reader, shape, text)
    elif kind in (b.LIST, b.SET):
        element, count = reader.list_head()
        text.add(f'["{_name(element, shape.element if shape is not None else None)}",{count}')
        inner = shape.element if shape is not None else None
        for _ in range(count):
            text.add(",")
            if element in _NESTED:
                yield from _nested(reader, element, inner, text)
            else:
                text.add(_scalar(reader, element, inner))
            if text.many():
                yield
        text.add("]")
    else:
        key, element, count = reader.map_head()
        shapes = (shape.key, shape.element) if shape is not None else (None, None)
        text.add(f'["{_name(key, shapes[0])}","{_name(element, shapes[1])}",{count},{{')
        for index in range(count):
            said = _scalar(reader, key, shapes[0])
            quoted = said if said.startswith('"') else f'"{said}"'
            text.add(f"{',' if index else ''}{quoted}:")
            if element in _NESTED:
                yield from _nested(reader, element, shapes[1], text)
            else:
                text.add(_scalar(reader, element, shapes[1]))
            if text.many():
                yield
        text.add("}]")


def _name(kind: int, shape: Shape | None) -> str:
    # An empty map of the compact protocol does not say of what.
    return _NAMES.get(kind) or _NAMES[shape.kind if shape is not None else b.STRING]


def _scalar(reader: Reader, kind: int, shape: Shape | None) -> str:
    if shape is not None and shape.kind != kind:
        shape = None
    if kind == b.STRING:
        data = reader.text()
        if shape is None:
            raise ValueError(_UNTOLD)
        if shape.binary:
            return f'"{base64.b64encode(data).decode()}"'
        return json.dumps(data.decode(), ensure_ascii=False)
    if kind == BOOL:
        return "1" if reader.boolean() else "0"
    if kind == DOUBLE:
        number = _DOUBLE.unpack(reader.double())[0]
        if math.isnan(number):
            return '"NaN"'
        if math.isinf(number):
            return '"Infinity"' if number > 0 else '"-Infinity"'
        return repr(number)
    if kind == UUID:
        return f'"{uuid.UUID(bytes=reader.raw(16))}"'
    if kind == BYTE:
        return str(int.from_bytes(reader.raw(1), signed=True))
    if kind in _BITS:
        return str(reader.integer(kind))
    raise ValueError("a map whose keys are no scalars")
