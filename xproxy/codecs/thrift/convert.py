"""From one dialect's struct to another's, value by value.

Binary ↔ compact needs no interface and no recursion; nothing is lost on the way. JSON does not say which of its
strings are binary (those are in base64 there): a struct with strings takes the user's interface. What cannot be said
(a 16 bit number above 16 bits) is our own mistake, not the peer's: the message was good where it came from.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from xproxy.codecs.slices import Work, at_once
from xproxy.codecs.thrift import walker as b
from xproxy.codecs.thrift.dialect import Dialect, Transport
from xproxy.codecs.thrift.encoding import looked_through
from xproxy.codecs.thrift.interface import Shape
from xproxy.codecs.thrift.json_values import MAX_JSON_BYTES, parsed, to_json, write_struct
from xproxy.codecs.thrift.values import (
    BOOL,
    DOUBLE,
    INTEGERS,
    UUID,
    BinaryReader,
    BinaryWriter,
    CompactReader,
    CompactWriter,
    Reader,
    Writer,
)
from xproxy.model.errors import LocalProtocolError

AT_ONCE: Final = 256
"""Values that are converted before others may have their turn: some 0.3 ms."""


def _no_shape() -> Shape | None:
    return None


def converted(
    data: bytes,
    source: Dialect,
    target: Dialect,
    limit: int,
    shape_of: Callable[[], Shape | None] = _no_shape,
) -> bytes:
    """Do all of ``converting`` at once."""
    return at_once(converting(data, source, target, limit, shape_of))


def converting(
    data: bytes,
    source: Dialect,
    target: Dialect,
    limit: int,
    shape_of: Callable[[], Shape | None] = _no_shape,
) -> Work[bytes]:
    """Return the struct ``data`` of ``source`` as ``target`` writes it, in ``limit`` bytes; pause now and then.

    ``shape_of`` gives what the interface says of it, if it is known. Raises LocalProtocolError. What will have no
    frame must be one struct with nothing behind it: that would be a message of its own.
    """
    encoding = source.encoding
    same = encoding.family == target.encoding.family
    if same and target.transport is not Transport.UNFRAMED:
        return data
    if not data:
        return target.encoding.empty  # nothing at all stands for a struct without fields
    if not (yield from looked_through(encoding, data)):
        raise LocalProtocolError(f"the body is no struct of Thrift's {source.protocol.value}")
    if same:
        return data
    try:
        return (
            yield from _rewritten(data, encoding.family, target.encoding.family, limit, shape_of)
        )
    except struct.error as exc:
        raise LocalProtocolError(f"a number that {target.protocol.value} cannot hold") from exc
    except ValueError as exc:
        raise LocalProtocolError(
            f"Thrift's {source.protocol.value} cannot be told as {target.protocol.value}: {exc}"
        ) from exc


def _rewritten(
    data: bytes, source: str, target: str, limit: int, shape_of: Callable[[], Shape | None]
) -> Work[bytes]:
    reader = BinaryReader(data) if source == "binary" else CompactReader(data)
    writer = BinaryWriter() if target == "binary" else CompactWriter()
    if target == "json":
        return (yield from to_json(reader, shape_of(), min(limit, MAX_JSON_BYTES)))
    if source == "json":
        yield from write_struct(writer, parsed(data), shape_of())
        _check_size(writer, limit)
        return bytes(writer.out)
    return (yield from _transcode(reader, writer, limit))


def _check_size(writer: Writer, limit: int) -> None:
    if len(writer.out) > limit:
        raise LocalProtocolError(f"converted, the message is above {limit} bytes")


def _transcode(reader: Reader, writer: Writer, limit: int) -> Work[bytes]:
    """Read one struct and write it. The stack is a walker's."""
    stack: list[list[int] | None] = [None]
    left = AT_ONCE
    while stack:
        left -= 1
        if not left:
            left = AT_ONCE
            yield
        top = stack[-1]
        if top is None:
            kind, number = reader.field()
            if kind == b.STOP:
                stack.pop()
                reader.leave()
                writer.leave()
                continue
            writer.field(kind, number)
        elif top[0]:
            kind = top[1]
            top[0] -= 1
            top[1], top[2] = top[2], top[1]
        else:
            stack.pop()
            continue
        if kind == b.STRUCT:
            reader.enter()
            writer.enter()
            stack.append(None)
        elif kind in (b.LIST, b.SET):
            element, count = reader.list_head()
            writer.list_head(element, count)
            stack.append([count, element, element])
        elif kind == b.MAP:
            key, value, count = reader.map_head()
            writer.map_head(key, value, count)
            stack.append([2 * count, key, value])
        elif kind == b.STRING:
            writer.text(reader.text())
        elif kind in INTEGERS:
            writer.integer(kind, reader.integer(kind))
        elif kind == BOOL:
            writer.boolean(reader.boolean())
        elif kind == DOUBLE:
            writer.double(reader.double())
        else:
            writer.raw(reader.raw(UUID if kind == UUID else 1))
        _check_size(writer, limit)
    return bytes(writer.out)
