"""Layouts: the fields of a message in wire order, with sizes that count what a protocol likes them to count.

A format is one of

* a number: letters of ``struct`` without byte order (``B``, ``I``, ``2s``), or ``varint``: in groups of 7 bits,
  lowest first;
* a size, which is computed: ``I=total`` of the whole message, ``I=rest`` or ``varint=rest`` of all behind this field,
  ``I=rest-4`` four less than there are (``+4`` four more), ``I=meta`` of the part ``meta``, ``H=meta/4`` in words;
* a part of bytes: ``*``, where another field says its size or else all that is left; ``I*`` or ``varint*`` behind it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import attrs

from xproxy.codecs.message_wire import Malformed

Values: TypeAlias = Mapping[str, Any]  # Any: of each field what its format says, a number or bytes

_LONGEST_VARINT: Final = 10
_FORMAT: Final = re.compile(
    r"(?P<number>varint|\d*[a-zA-Z])?(?P<part>\*)?(?:=(?P<of>[a-z_]+)(?P<more>[+-]\d+)?(?:/(?P<unit>\d+))?)?"
)


@attrs.frozen
class _Field:
    name: str
    number: struct.Struct | None
    """None: a varint, or no number at all."""
    varint: bool
    part: bool
    of: str
    """What a size counts: ``total``, ``rest`` or a part's name; empty: it is none."""
    more: int
    unit: int


class Layout:
    """Reads and writes values by their layout. Raises ValueError for one that cannot work."""

    def __init__(self, fields: Mapping[str, str], order: str) -> None:
        self._fields = [_field(name, text, order) for name, text in fields.items()]
        sized = {f.of for f in self._fields if f.of}
        self._open_parts = [
            f.name
            for f in self._fields
            if f.part and f.number is None and not f.varint and f.name not in sized
        ]
        bounded = bool(sized & {"total", "rest"})
        if len(self._open_parts) > bounded:
            raise ValueError(f"nothing says how long {', '.join(self._open_parts)} is")
        if self._open_parts and self._fields[-1].name != self._open_parts[0]:
            raise ValueError(f"what is left over, {self._open_parts[0]}, must stand last")
        if unknown := sized - {"total", "rest"} - set(fields):
            raise ValueError(f"sizes of {', '.join(sorted(unknown))}, which is no field")

    def fixed_at(self, name: str) -> int | None:
        """Return where a field of fixed length always stands; None if it does not, or is none."""
        at = 0
        for field in self._fields:
            if field.name == name:
                return at
            if field.number is None or field.part:
                return None
            at += field.number.size
        return None

    def read(
        self, buffer: bytes, at: int, size: int, most: int
    ) -> tuple[dict[str, Any], int] | int:
        """Return the values of the message at ``at`` and its length, or how many bytes from ``at`` are needed.

        Raises Malformed, at once where a size is above ``most``.
        """
        values: dict[str, Any] = {}
        sizes: dict[str, int] = {}
        here, end = at, None
        for field in self._fields:
            number = 0
            if field.varint:
                found = _varint(buffer, here, size)
                if found is None:
                    return self._need(size + 1 - at, most, size - here)
                number, here = found
            elif field.number is not None:
                if here + field.number.size > size:
                    return self._checked(here + field.number.size - at, most)
                (value,) = field.number.unpack_from(buffer, here)
                here += field.number.size
                if field.part or field.of:
                    number = value
                else:
                    values[field.name] = value
            if field.varint and not field.part and not field.of:
                values[field.name] = number
            if field.of:
                counted = (number * field.unit) - field.more
                if field.of in ("total", "rest"):
                    end = (at if field.of == "total" else here) + counted
                    self._checked(end - at, most)
                    if end < here:
                        raise Malformed("a size is less than what it counts")
                else:
                    sizes[field.of] = counted
            if field.part:
                length = (
                    number
                    if field.varint or field.number is not None
                    else sizes.get(field.name, (end if end is not None else here) - here)
                )
                if length < 0 or (end is not None and here + length > end):
                    raise Malformed("the sizes contradict each other")
                self._checked(here + length - at, most)
                if here + length > size:
                    return max(here + length, end or 0) - at
                values[field.name] = buffer[here : here + length]
                here += length
        if end is not None and here != end:
            raise Malformed("the sizes contradict each other")
        return values, here - at

    def _checked(self, length: int, most: int) -> int:
        if length > most:
            raise Malformed(f"message of {length} bytes, limit {most}")
        return length

    def _need(self, length: int, most: int, seen: int) -> int:
        if seen >= _LONGEST_VARINT:
            raise Malformed("a number has no end")
        return self._checked(length, most)

    def write(self, values: Values) -> bytes:
        """Put a message together. Raises ValueError, TypeError, LookupError or struct.error for what does not fit."""
        lengths = {f.name: len(_bytes(values[f.name])) for f in self._fields if f.part}
        tail = 0
        pieces: list[bytes] = []
        head = None
        for field in reversed(self._fields):
            if field.of == "total":
                head = len(pieces)
                pieces.append(b"")
                continue
            piece = _bytes(values[field.name]) if field.part else b""
            number: int | bytes | None = None
            if field.of:
                counted = tail if field.of == "rest" else lengths[field.of]
                number = _in_units(counted + field.more, field.unit)
            elif field.part:
                number = len(piece)
            else:
                number = values[field.name]
            piece = _number(field, number) + piece
            tail += len(piece)
            pieces.append(piece)
        if head is not None:
            field = next(f for f in self._fields if f.of == "total")
            assert field.number is not None
            length = tail + field.number.size + field.more
            pieces[head] = _number(field, _in_units(length, field.unit))
        return b"".join(reversed(pieces))


def _field(name: str, text: str, order: str) -> _Field:
    found = _FORMAT.fullmatch(text)
    if found is None or not (found["number"] or found["part"]) or (found["part"] and found["of"]):
        raise ValueError(f"the format {text!r} of {name}")
    varint = found["number"] == "varint"
    if varint and found["of"] == "total":
        raise ValueError(f"{name}: a varint cannot count itself")
    number = struct.Struct(order + found["number"]) if found["number"] and not varint else None
    more, unit = int(found["more"] or 0), int(found["unit"] or 1)
    return _Field(name, number, varint, bool(found["part"]), found["of"] or "", more, unit)


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(f"a part is a {type(value).__name__}")
    return value


def _in_units(count: int, unit: int) -> int:
    if count % unit:
        raise ValueError(f"{count} bytes are no multiple of {unit}")
    return count // unit


def _number(field: _Field, value: int | bytes) -> bytes:
    if field.varint:
        if not isinstance(value, int) or value < 0:
            raise ValueError(f"{field.name} is no whole number")
        return write_varint(value)
    return b"" if field.number is None else field.number.pack(value)


def write_varint(number: int) -> bytes:
    """Write a number in groups of 7 bits, lowest first (LEB128, as in Protocol Buffers)."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Read what ``write_varint`` wrote; return it and where it ends. Raises ValueError if it does not."""
    found = _varint(data, at, len(data))
    if found is None:
        raise ValueError("a number has no end")
    return found


def read_sized(data: bytes, at: int, width: int) -> tuple[bytes, int]:
    """Read bytes behind their length, a big-endian number of ``width`` bytes; return them and where they end.

    Raises ValueError if they break off.
    """
    start = at + width
    end = start + int.from_bytes(data[at:start])
    if end > len(data):
        raise ValueError("something breaks off")
    return data[start:end], end


def write_sized(raw: bytes, width: int) -> bytes:
    """Write bytes behind their length. Raises OverflowError where that does not fit."""
    return len(raw).to_bytes(width) + raw


def _varint(buffer: bytes, at: int, size: int) -> tuple[int, int] | None:
    number = 0
    for index in range(at, min(size, at + _LONGEST_VARINT)):
        number |= (buffer[index] & 0x7F) << 7 * (index - at)
        if buffer[index] < 0x80:
            return number, index + 1
    return None
