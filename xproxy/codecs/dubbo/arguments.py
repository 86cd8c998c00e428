"""Passing over hessian2 values, such as the arguments of a call, without making them.

With a stack of counters: no recursion, and no object for what is passed over. A ``Walk`` bounds depth,
definitions and the number of values.
"""

from __future__ import annotations

from typing import Final

from xproxy.codecs.hessian2 import (
    HessianError,
    past_binary,
    past_chunk,
    past_text,
    past_type,
    past_units,
    read_int,
)
from xproxy.codecs.slices import Work, at_once

MAX_DEPTH: Final = 64
MAX_VALUES: Final = 65_536
"""In one walk, which then takes some 10 ms, containers some 50."""
_VALUES_AT_ONCE: Final = 1024
"""Values of a slice of it: a millisecond's worth, the worst of them …"""
_BYTES_AT_ONCE: Final = 128 * 1024
"""… and bytes, where they are long."""
MAX_DEFINITIONS: Final = 1000
MAX_FIELDS: Final = 1000
"""Of one class."""

_END: Final = 0x5A  # 'Z'

# What a list or map until its end mark has left to go, where others count down to zero.
_OPEN_LIST: Final = -1
_OPEN_MAP: Final = -2
_OPEN_MAP_VALUE: Final = -3
"""A key was read, its value is due."""
_LESS: Final = {
    _OPEN_LIST: _OPEN_LIST,
    _OPEN_MAP: _OPEN_MAP_VALUE,
    _OPEN_MAP_VALUE: _OPEN_MAP,
}
"""What is left of those after one more value."""


def _atom_sizes() -> tuple[int, ...]:
    """Return the whole size of a value by its first byte, where that says it; else 0."""
    sizes = [0] * 256
    sizes[0x00] = 1  # the empty string
    for lead in range(0x20, 0x30):
        sizes[lead] = 1 + lead - 0x20
    for first, last, size in (
        (0x38, 0x3F, 3),
        (0x44, 0x44, 9),
        (0x46, 0x46, 1),
        (0x49, 0x49, 5),
        (0x4A, 0x4A, 9),
        (0x4B, 0x4B, 5),
        (0x4C, 0x4C, 9),
        (0x4E, 0x4E, 1),
        (0x54, 0x54, 1),
        (0x59, 0x59, 5),
        (0x5B, 0x5C, 1),
        (0x5D, 0x5D, 2),
        (0x5E, 0x5E, 3),
        (0x5F, 0x5F, 5),
        (0x80, 0xBF, 1),
        (0xC0, 0xCF, 2),
        (0xD0, 0xD7, 3),
        (0xD8, 0xEF, 1),
        (0xF0, 0xFF, 2),
    ):
        sizes[first : last + 1] = [size] * (last + 1 - first)
    return tuple(sizes)


_ATOMS: Final = _atom_sizes()


class Walk:
    """What must be known of the values before, and what is left to spend."""

    __slots__ = ("fields", "has_references", "values")

    def __init__(self, values: int = MAX_VALUES) -> None:
        self.fields: list[int] = []
        """Field counts of the classes defined so far."""
        self.has_references = False
        self.values = values
        """How many more may be passed over."""

    def take(self) -> int:
        """Return how many may be passed over at once, and count them as spent."""
        taken = min(self.values, _VALUES_AT_ONCE)
        self.values -= taken
        return taken


def past_plain(data: bytes, at: int, count: int) -> int:
    """Return where ``count`` plain values, numbers and the like or strings in one chunk, end; -1 if one is not plain.

    For the usual few arguments, without the apparatus of ``past``. Ends beyond the data are -1 too.
    """
    size = len(data)
    for _ in range(count):
        if at >= size:
            return -1
        lead = data[at]
        atom = _ATOMS[lead]
        if atom:
            at += atom
            continue
        if lead < 0x20:
            at += 1
            units = lead
        elif 0x30 <= lead <= 0x33 and at + 1 < size:
            units = (lead - 0x30 << 8) + data[at + 1]
            at += 2
        elif lead == 0x53 and at + 2 < size:
            units = (data[at + 1] << 8) + data[at + 2]
            at += 3
        else:
            return -1
        chunk = data[at : at + units]
        if len(chunk) < units:
            return -1
        if chunk.isascii():
            at += units
        else:
            try:
                at = past_units(data, at, units)
            except HessianError:
                return -1
    return at if at <= size else -1


def past(data: bytes, at: int, count: int, walk: Walk) -> int:
    """Return where ``count`` values that begin at ``at`` end. Raises HessianError."""
    return at_once(passing(data, at, count, walk))


def passing(data: bytes, at: int, count: int, walk: Walk) -> Work[int]:
    """Return ``past``, as work."""
    try:
        at = yield from _passing(data, at, count, walk)
    except IndexError:
        raise HessianError("ends within a value") from None
    if at > len(data):
        raise HessianError("ends within a value")
    return at


def _passing(data: bytes, at: int, count: int, walk: Walk) -> Work[int]:
    left, sizes = count, _ATOMS
    stack: list[int] = []
    values = walk.take()
    pause = at + _BYTES_AT_ONCE
    while True:
        while left == 0:
            if not stack:
                walk.values += values
                return at
            left = stack.pop()
        lead = data[at]
        if lead == _END:
            if left not in (_OPEN_LIST, _OPEN_MAP):
                raise HessianError("an end mark where a value is due")
            at += 1
            left = stack.pop()
            continue
        values -= 1
        if values < 0 or at > pause:
            yield
            pause = at + _BYTES_AT_ONCE
            if values < 0:
                values += walk.take()
                if values < 0:
                    raise HessianError("too many values")
        size = sizes[lead]
        if size:
            at += size
        elif lead == 0x52 or lead == 0x41:
            # A chunk costs what a value costs: there are as many in a string as its writer likes.
            at = past_chunk(data, at)
            continue  # no value yet
        elif lead < 0x20 and data[at + 1 : at + 1 + lead].isascii():
            at += 1 + lead
        elif lead < 0x20 or 0x30 <= lead <= 0x33 or lead == 0x53:
            at = past_text(data, at)
        elif 0x34 <= lead <= 0x37 or lead == 0x42:
            at = past_binary(data, at)
        elif lead == 0x43:
            at = _define(data, at, walk)
            values -= walk.fields[-1]  # a name costs what a value costs
            continue  # no value yet
        elif lead == 0x51:
            walk.has_references = True
            at = read_int(data, at + 1)[1]
        else:
            at, inner = _enter(data, at, walk)
            stack.append(left - 1 if left > 0 else _LESS[left])
            if len(stack) > MAX_DEPTH:
                raise HessianError(f"deeper than {MAX_DEPTH}")
            left = inner
            continue
        left = left - 1 if left > 0 else _LESS[left]


def _enter(data: bytes, at: int, walk: Walk) -> tuple[int, int]:
    """Go into a container: return where its first value is, and how many there are."""
    lead = data[at]
    at += 1
    if 0x60 <= lead <= 0x6F:
        return at, _fields_of(lead - 0x60, walk)
    if lead == 0x4F:
        index, at = read_int(data, at)
        return at, _fields_of(index, walk)
    if 0x78 <= lead <= 0x7F:
        return at, lead - 0x78
    if lead == 0x48:
        return at, _OPEN_MAP
    if lead == 0x57:
        return at, _OPEN_LIST
    if lead == 0x58:
        return _counted(data, at)
    if lead in (0x4D, 0x55, 0x56) or 0x70 <= lead <= 0x77:
        at = past_type(data, at)
        if lead == 0x4D:
            return at, _OPEN_MAP
        if lead == 0x55:
            return at, _OPEN_LIST
        if lead == 0x56:
            return _counted(data, at)
        return at, lead - 0x70
    raise HessianError(f"no value begins with {lead:#04x}")


def _counted(data: bytes, at: int) -> tuple[int, int]:
    count, at = read_int(data, at)
    # Each element takes a byte at least.
    if not 0 <= count <= len(data) - at:
        raise HessianError("a list of more elements than there are bytes")
    return at, count


def _fields_of(index: int, walk: Walk) -> int:
    if not 0 <= index < len(walk.fields):
        raise HessianError("an object of no defined class")
    return walk.fields[index]


def _define(data: bytes, at: int, walk: Walk) -> int:
    """Pass over a class definition and keep how many fields it has."""
    if len(walk.fields) >= MAX_DEFINITIONS:
        raise HessianError(f"more than {MAX_DEFINITIONS} classes")
    at = past_text(data, at + 1)
    count, at = read_int(data, at)
    if not 0 <= count <= MAX_FIELDS:
        raise HessianError(f"a class of more than {MAX_FIELDS} fields")
    for _ in range(count):
        at = past_text(data, at)
    walk.fields.append(count)
    return at
