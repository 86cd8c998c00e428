"""The compact protocol: heads, exceptions, and where a struct ends (thrift: TCompactProtocol).

Rule of this file: a varint that does not end within its bound is malformed, at its last byte and not later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from xproxy.codecs.message_wire import Malformed
from xproxy.codecs.thrift.encoding import (
    MASK,
    MAX_DEPTH,
    HeadParts,
    Walker,
    check_depth,
    check_kind,
    check_name_length,
)

MAGIC: Final = 0x82
VERSION: Final = 1
STOP: Final = 0
TRUE: Final = 1
FALSE: Final = 2
I32: Final = 5
I64: Final = 6
BINARY: Final = 8
LIST: Final = 9
SET: Final = 10
MAP: Final = 11
STRUCT: Final = 12
LAST_TYPE: Final = 13
SIZES: Final[Mapping[int, int]] = {TRUE: 1, FALSE: 1, 3: 1, 7: 8, LAST_TYPE: 16}
"""Types of a fixed size in a container: bools, byte, double, uuid. In a field a bool has none."""
VARINTS: Final[Mapping[int, int]] = {4: 3, I32: 5, I64: 10}
"""Integers, and the most bytes that they take."""
LONG_COUNT: Final = 15
"""In place of a list's count: a varint follows."""

_MANY: Final = 64
_SHORT: Final = rb"(?:\x00|\x01.|\x02..|\x03...)"


def _heads(*kinds: int) -> bytes:
    # Heads of fields with their ids in short.
    return b"[%b]" % b"".join(
        b"\\x%02x" % (delta << 4 | k) for delta in range(1, 16) for k in kinds
    )


def _varint(most: int) -> bytes:
    return rb"[\x80-\xff]{0,%d}[\x00-\x7f]" % (most - 1)


_FLAT: Final = b"(?:%b)" % b"|".join(
    (
        _heads(TRUE, FALSE),
        _heads(3) + b".",
        *(_heads(kind) + _varint(most) for kind, most in VARINTS.items()),
        _heads(7) + b".{8}",
        _heads(BINARY) + _SHORT,
    )
)
"""A field that is a scalar, or a short string."""
_FIELDS: Final = re.compile(_FLAT + b"{8,}+", re.DOTALL)
_RUNS: Final = {
    kind: re.compile(rb"(?:%b){%d}+" % (one, _MANY), re.DOTALL)
    for kind, one in (
        *((kind, _varint(most)) for kind, most in VARINTS.items()),
        (BINARY, _SHORT),
        (STRUCT, _FLAT + rb"*+\x00"),
        (LIST, rb"[\x00-\x0f]"),
        (SET, rb"[\x00-\x0f]"),
        (MAP, rb"\x00"),
    )
}
"""Many elements of a container that are small: an expression runs over them faster than a loop."""


def read_varint(buffer: bytes | bytearray, at: int, size: int, most: int = 5) -> tuple[int, int]:
    """Return a varint and where it ends; the end is -1 if it has not come yet. Raises Malformed."""
    value = shift = 0
    last = at + most
    while at < size:
        byte = buffer[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if most == 5 and value > MASK:
                raise Malformed("varint above 32 bits")
            return value, at
        if at == last:
            raise Malformed(f"varint above {most} bytes")
        shift += 7
    return 0, -1


def write_varint(value: int) -> bytes:
    """Write an unsigned number."""
    if value < 0x80:
        return b"%c" % value
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def zigzag(value: int) -> int:
    """Fold a signed number into an unsigned one."""
    return value << 1 if value >= 0 else (-value << 1) - 1


def unzigzag(value: int) -> int:
    """Undo ``zigzag``."""
    return (value >> 1) ^ -(value & 1)


class CompactEncoding:
    """The compact protocol."""

    family: Final = "compact"
    tail: Final = b""
    empty: Final = b"\x00"

    def read_head(self, buffer: bytes, at: int, size: int) -> HeadParts | int:
        """See Encoding."""
        if size - at < 2:
            return 2
        if buffer[at] != MAGIC or buffer[at + 1] & 0x1F != VERSION:
            raise Malformed(f"version {buffer[at]:02x}{buffer[at + 1]:02x} of the compact protocol")
        kind = buffer[at + 1] >> 5
        check_kind(kind)
        seqid, position = read_varint(buffer, at + 2, size)
        length = 0
        if position >= 0:
            length, position = read_varint(buffer, position, size)
        if position < 0:
            return size - at + 1
        check_name_length(length)
        body = position + length
        if body > size:
            return body - at
        return kind, buffer[position:body], seqid, body

    def write_head(self, kind: int, name: bytes, seqid: int) -> bytes:
        """See Encoding."""
        return b"\x82%c%b%b%b" % (
            kind << 5 | VERSION,
            write_varint(seqid),
            write_varint(len(name)),
            name,
        )

    def walker(self, pos: int, limit: int) -> Walker:
        """See Encoding."""
        return CompactWalker(pos, limit)

    def exception(self, code: int, text: str) -> bytes:
        """See Encoding."""
        message = text.encode("utf-8", "replace")
        return b"\x18%b%b\x15%b\x00" % (
            write_varint(len(message)),
            message,
            write_varint(zigzag(code)),
        )

    def exception_code(self, data: bytes) -> int:
        """See Encoding. Reads what is written here and by every peer: two fields, in this order or the other."""
        at, field, size = 0, 0, len(data)
        try:
            while at < size:
                kind, delta = data[at] & 15, data[at] >> 4
                at += 1
                if delta:
                    field += delta
                else:
                    number, at = read_varint(data, at, size)
                    field = unzigzag(number)
                if at < 0 or kind not in (I32, BINARY):
                    break
                value, at = read_varint(data, at, size)
                if at < 0:
                    break
                if kind == BINARY:
                    at += value
                elif field == 2:
                    return unzigzag(value)
        except Malformed:
            pass
        return 0

    def declared(self, data: bytes) -> bool:
        """See Encoding. Field 0 can only be written with its id in full: the one before it counts as 0, too."""
        return len(data) > 1 and data[0] != STOP and (data[0] >= 0x10 or data[1] != 0)


class CompactWalker:
    """See Walker. The stack is that of BinaryWalker."""

    __slots__ = ("_limit", "_stack", "need", "pos")

    def __init__(self, pos: int, limit: int, kind: int = STRUCT) -> None:
        """Walk a struct, or a value of another ``kind``."""
        self.pos = pos
        self.need = pos + 1
        self._limit = limit
        self._stack: list[list[int] | None] = [None if kind == STRUCT else [1, kind, kind]]

    def walk(self, buffer: bytes | bytearray, base: int, size: int) -> bool:
        """See Walker."""
        stack = self._stack
        pos, have = self.pos, size - base
        later = (
            0  # values to go before a run is looked for again: a failed search may have gone far
        )
        while stack:
            top = stack[-1]
            if top is None:
                if pos >= have:
                    return self._wait(pos, pos + 1)
                byte = buffer[base + pos]
                kind = byte & 15
                if kind == STOP:
                    stack.pop()
                    pos += 1
                    continue
                found = _FIELDS.match(buffer, base + pos, size)
                if found is not None:
                    pos = self._bounded(found.end() - base)
                    continue
                at = pos + 1
                if byte < 0x10:
                    at = read_varint(buffer, base + at, size, 3)[1] - base
                    if at < 0:
                        return self._wait(pos, have + 1)
                if kind <= FALSE:
                    pos = self._bounded(at)
                    continue
            elif top[0]:
                kind = top[1]
                at = pos
                if later:
                    later -= 1
                elif (
                    top[0] >= _MANY and kind == top[2] and kind in _RUNS and len(stack) < MAX_DEPTH
                ):
                    found = _RUNS[kind].match(buffer, base + pos, size)
                    if found is not None:
                        top[0] -= _MANY
                        pos = self._bounded(found.end() - base)
                        continue
                    later = _MANY
            else:
                stack.pop()
                continue
            end = self._value(buffer, base, at, size, kind)
            if end < 0:
                return self._wait(pos, max(have, at) + 1)
            if top is not None:
                top[0] -= 1
                top[1], top[2] = top[2], top[1]
            pos = self._bounded(end)
        self._wait(pos, pos)
        return pos <= have

    def _bounded(self, pos: int) -> int:
        if pos > self._limit:
            raise Malformed(f"message of {pos} bytes or more, limit {self._limit}")
        return pos

    def _wait(self, pos: int, need: int) -> bool:
        if need > self._limit:
            raise Malformed(f"message of {need} bytes or more, limit {self._limit}")
        self.pos, self.need = pos, need
        return False

    def _value(self, buffer: bytes | bytearray, base: int, at: int, size: int, kind: int) -> int:
        """Return where the value at ``at`` ends, or where its elements begin; -1 if that cannot be told yet."""
        width = SIZES.get(kind)
        if width is not None:
            return at + width
        if kind == STRUCT:
            self._push(None)
            return at
        most = VARINTS.get(kind)
        if most is not None:
            end = read_varint(buffer, base + at, size, 10)[1]
            if end >= 0 and end - base - at > most:
                raise Malformed(f"varint of {end - base - at} bytes, limit {most}")
            return end - base if end >= 0 else -1
        if kind == BINARY:
            length, end = read_varint(buffer, base + at, size)
            return end - base + length if end >= 0 else -1
        if kind > LAST_TYPE:
            raise Malformed(f"type {kind}")
        if base + at >= size:
            return -1
        if kind == MAP:
            count, end = read_varint(buffer, base + at, size)
            if end < 0 or (count and end >= size):
                return -1
            if not count:
                return end - base
            types = buffer[end]
            return self._enter(end + 1 - base, 2 * count, types >> 4, types & 15)
        count, element = buffer[base + at] >> 4, buffer[base + at] & 15
        end = base + at + 1
        if count == LONG_COUNT:
            count, end = read_varint(buffer, end, size)
            if end < 0:
                return -1
        return self._enter(end - base, count, element, element) if count else end - base

    def _enter(self, pos: int, count: int, first: int, second: int) -> int:
        """Begin a container whose elements start at ``pos``; returns where to go on."""
        if not (TRUE <= first <= LAST_TYPE and TRUE <= second <= LAST_TYPE):
            raise Malformed(f"container of type {first}, {second}")
        one, other = SIZES.get(first), SIZES.get(second)
        if one is not None and other is not None:
            return pos + count * (one + other) // 2
        most = self._limit - pos
        if count > most:
            # Each element takes a byte at least: what cannot fit is not begun.
            raise Malformed(f"container of {count} elements in {most} bytes")
        self._push([count, first, second])
        return pos

    def _push(self, unfinished: list[int] | None) -> None:
        self._stack.append(unfinished)
        check_depth(len(self._stack))
