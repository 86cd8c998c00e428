"""Where a struct of the binary protocol ends. Resumable at any byte, linear, and without recursion.

A message without a frame ends where its struct does; there is no other way to know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from struct import Struct
from typing import Final

from xproxy.codecs.message_wire import Malformed
from xproxy.codecs.thrift.encoding import MAX_DEPTH, check_depth

STOP: Final = 0
I32: Final = 8
STRING: Final = 11
STRUCT: Final = 12
MAP: Final = 13
SET: Final = 14
LIST: Final = 15
SIZES: Final[Mapping[int, int]] = {2: 1, 3: 1, 4: 8, 6: 2, I32: 4, 10: 8, 16: 16}
"""Types of a fixed size: bool, byte, double, i16, i32, i64, uuid."""
LEAST: Final[Mapping[int, int]] = {**SIZES, STRING: 4, STRUCT: 1, MAP: 6, SET: 5, LIST: 5}
"""The fewest bytes that a value of a type takes."""
FIELD: Final = 3
"""Type and id before the value of a field."""

_MANY: Final = 64
_SHORT: Final = rb"\x00{3}(?:\x00|\x01.|\x02..|\x03...)"
_FLAT: Final = rb"(?:[\x02\x03].{3}|\x06.{4}|\x08.{6}|[\x04\x0a].{10}|\x10.{18}|\x0b..%b)" % _SHORT
"""A field of a fixed size, or with a short string."""
_FIELDS: Final = re.compile(rb"%b{8,}+" % _FLAT, re.DOTALL)
_RUNS: Final = {
    kind: re.compile(rb"(?:%b){%d}+" % (one, _MANY), re.DOTALL)
    for kind, one in (
        (STRING, _SHORT),
        (STRUCT, rb"%b*+\x00" % _FLAT),
        (LIST, rb".\x00{4}"),
        (SET, rb".\x00{4}"),
        (MAP, rb"..\x00{4}"),
    )
}
"""Many elements of a container that are small: an expression runs over them faster than a loop."""

LENGTH: Final = Struct(">i").unpack_from
MAP_HEAD: Final = Struct(">BBi").unpack_from
LIST_HEAD: Final = Struct(">Bi").unpack_from


class BinaryWalker:
    """See Walker. Its stack holds what is unfinished: None for a struct, [left, type, other type] for a container.

    The types of a container take turns, so that a map of n pairs is a container of 2n values.
    """

    __slots__ = ("_limit", "_stack", "need", "pos")

    def __init__(self, pos: int, limit: int, kind: int = STRUCT) -> None:
        """Walk a struct, or a value of another ``kind``."""
        self.pos = pos
        self.need = pos + 1
        self._limit = limit
        self._stack: list[list[int] | None] = [None if kind == STRUCT else [1, kind, kind]]

    def walk(self, buffer: bytes | bytearray, base: int, size: int) -> bool:
        """See Walker."""
        stack, fixed = self._stack, SIZES.get
        pos, have = self.pos, size - base
        later = (
            0  # values to go before a run is looked for again: a failed search may have gone far
        )
        while stack:
            top = stack[-1]
            if top is None:
                if pos >= have:
                    return self._wait(pos, pos + 1)
                kind = buffer[base + pos]
                if kind == STOP:
                    stack.pop()
                    pos += 1
                    continue
                found = _FIELDS.match(buffer, base + pos, size)
                if found is not None:
                    pos = self._bounded(found.end() - base)
                    continue
                at = pos + FIELD
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
            width = fixed(kind)
            if width is None:
                least = LEAST.get(kind)
                if least is None:
                    raise Malformed(f"type {kind}")
                if kind != STRUCT and at + least > have:
                    # Its size is not there yet. Nothing has changed: this value is begun anew.
                    return self._wait(pos, at + least)
            if top is not None:
                top[0] -= 1
                top[1], top[2] = top[2], top[1]
            if width is not None:
                pos = at + width
            elif kind == STRUCT:
                stack.append(None)
                check_depth(len(stack))
                pos = at
            elif kind == STRING:
                length = LENGTH(buffer, base + at)[0]
                if length < 0:
                    raise Malformed(f"string of {length} bytes")
                pos = at + 4 + length
            elif kind == MAP:
                key, value, count = MAP_HEAD(buffer, base + at)
                pos = self._enter(at + 6, 2 * count, key, value)
            else:
                element, count = LIST_HEAD(buffer, base + at)
                pos = self._enter(at + 5, count, element, element)
            self._bounded(pos)
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

    def _enter(self, pos: int, count: int, first: int, second: int) -> int:
        """Begin a container whose elements start at ``pos``; returns where to go on."""
        if count < 0:
            raise Malformed(f"container of {count} elements")
        if count == 0:
            return pos  # some peers write no types then
        one, other = LEAST.get(first), LEAST.get(second)
        if one is None or other is None:
            raise Malformed(f"container of type {first if one is None else second}")
        if first in SIZES and second in SIZES:
            # Both sizes are the same, or they take turns.
            return pos + count * (one + other) // 2
        most = self._limit - pos
        if count * min(one, other) > most:
            # Each element takes a byte at least: what cannot fit is not begun.
            raise Malformed(f"container of {count} elements in {most} bytes")
        self._stack.append([count, first, second])
        check_depth(len(self._stack))
        return pos
