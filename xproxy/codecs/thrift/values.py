"""Values of the binary and of the compact protocol, one after another: readers, and writers that take what they give.

Types are named as the binary protocol numbers them.
"""

from __future__ import annotations

import struct
from typing import Final, TypeAlias

from xproxy.codecs.slices import Work
from xproxy.codecs.thrift import compact as c
from xproxy.codecs.thrift import walker as b
from xproxy.codecs.thrift.encoding import LOOKED_AT, Walker

BOOL: Final = 2
BYTE: Final = 3
DOUBLE: Final = 4
I16: Final = 6
I64: Final = 10
UUID: Final = 16
_COMPACT: Final = {
    BOOL: c.TRUE,
    BYTE: 3,
    DOUBLE: 7,
    I16: 4,
    b.I32: c.I32,
    I64: c.I64,
    b.STRING: c.BINARY,
    b.STRUCT: c.STRUCT,
    b.MAP: c.MAP,
    b.SET: c.SET,
    b.LIST: c.LIST,
    UUID: c.LAST_TYPE,
}
"""Types of the binary protocol, which are the names of types here, in the compact one."""
_BINARY: Final = {**{there: here for here, there in _COMPACT.items()}, c.FALSE: BOOL}
INTEGERS: Final = {I16: struct.Struct(">h"), b.I32: struct.Struct(">i"), I64: struct.Struct(">q")}
_FIELD: Final = struct.Struct(">Bh")
_MAP: Final = struct.Struct(">BBi")
_LIST: Final = struct.Struct(">Bi")
_U32: Final = struct.Struct(">I")


class BinaryReader:
    """Reads a struct that was walked before: its bounds are known to be good."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def raw(self, count: int) -> bytes:
        """Take bytes."""
        start, self._at = self._at, self._at + count
        return self._data[start : self._at]

    def enter(self) -> None:
        """Begin a struct."""

    def leave(self) -> None:
        """End a struct."""

    def field(self) -> tuple[int, int]:
        """Take a field's type and id; type STOP is the end."""
        if self._data[self._at] == b.STOP:
            self._at += 1
            return b.STOP, 0
        return _FIELD.unpack(self.raw(3))

    def boolean(self) -> bool:
        return self.raw(1) != b"\0"

    def integer(self, kind: int) -> int:
        number: int = INTEGERS[kind].unpack(self.raw(INTEGERS[kind].size))[0]
        return number

    def double(self) -> bytes:
        """Take a double, its first byte first."""
        return self.raw(8)

    def text(self) -> bytes:
        return self.raw(_U32.unpack(self.raw(4))[0])

    def map_head(self) -> tuple[int, int, int]:
        """Take the types of keys and values, and the number of pairs."""
        return _MAP.unpack(self.raw(6))

    def list_head(self) -> tuple[int, int]:
        """Take the type of elements, and their number."""
        return _LIST.unpack(self.raw(5))

    def skip(self, kind: int) -> Work[None]:
        """Pass over a struct or a container, ``LOOKED_AT`` bytes at a time."""
        walker = b.BinaryWalker(self._at, len(self._data), kind)
        yield from _walked(walker, self._data)
        self._at = walker.pos


class CompactReader:
    """Likewise, of the compact protocol."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._ids = [0]
        self._bool: bool | None = None  # the value of a field that is in its head

    def raw(self, count: int) -> bytes:
        start, self._at = self._at, self._at + count
        return self._data[start : self._at]

    def _varint(self, most: int = 5) -> int:
        value, self._at = c.read_varint(self._data, self._at, len(self._data), most)
        return value

    def enter(self) -> None:
        self._ids.append(0)

    def leave(self) -> None:
        self._ids.pop()

    def field(self) -> tuple[int, int]:
        byte = self.raw(1)[0]
        kind = byte & 15
        if kind == c.STOP:
            return b.STOP, 0
        if byte >> 4:
            self._ids[-1] += byte >> 4
        else:
            self._ids[-1] = c.unzigzag(self._varint())
        if kind <= c.FALSE:
            self._bool = kind == c.TRUE
        return _BINARY[kind], self._ids[-1]

    def boolean(self) -> bool:
        value, self._bool = self._bool, None
        return self.raw(1) == b"\x01" if value is None else value

    def integer(self, kind: int) -> int:
        value = c.unzigzag(self._varint(10))
        # The last of ten bytes has bits to spare; peers drop them.
        return value if kind != I64 else (value + (1 << 63)) % (1 << 64) - (1 << 63)

    def double(self) -> bytes:
        return self.raw(8)[::-1]

    def text(self) -> bytes:
        return self.raw(self._varint())

    def map_head(self) -> tuple[int, int, int]:
        count = self._varint()
        types = self.raw(1)[0] if count else 0
        return _BINARY.get(types >> 4, 0), _BINARY.get(types & 15, 0), count

    def list_head(self) -> tuple[int, int]:
        byte = self.raw(1)[0]
        count = byte >> 4
        return _BINARY.get(byte & 15, 0), count if count != c.LONG_COUNT else self._varint()

    def skip(self, kind: int) -> Work[None]:
        walker = c.CompactWalker(self._at, len(self._data), _COMPACT[kind])
        yield from _walked(walker, self._data)
        self._at = walker.pos


def _walked(walker: Walker, data: bytes) -> Work[None]:
    # The struct round it has been walked: it ends within the data.
    end, size = walker.pos, len(data)
    while True:
        end = min(max(end, walker.pos) + LOOKED_AT, size)
        if walker.walk(data, 0, end) or end == size:
            return
        yield


class BinaryWriter:
    """Writes a struct."""

    def __init__(self) -> None:
        self.out = bytearray()

    def raw(self, data: bytes) -> None:
        self.out += data

    def enter(self) -> None:
        """Begin a struct."""

    def leave(self) -> None:
        """End a struct."""
        self.out.append(b.STOP)

    def field(self, kind: int, number: int) -> None:
        self.out += _FIELD.pack(kind, number)

    def boolean(self, value: bool) -> None:
        self.out.append(value)

    def integer(self, kind: int, number: int) -> None:
        self.out += INTEGERS[kind].pack(number)

    def double(self, data: bytes) -> None:
        self.out += data

    def text(self, data: bytes) -> None:
        self.out += _U32.pack(len(data)) + data

    def map_head(self, key: int, value: int, count: int) -> None:
        self.out += _MAP.pack(key, value, count)

    def list_head(self, element: int, count: int) -> None:
        self.out += _LIST.pack(element, count)


class CompactWriter:
    """Likewise, of the compact protocol."""

    def __init__(self) -> None:
        self.out = bytearray()
        self._ids = [0]
        self._field: int | None = None  # a bool's id, until its value is known

    def raw(self, data: bytes) -> None:
        self.out += data

    def enter(self) -> None:
        self._ids.append(0)

    def leave(self) -> None:
        self._ids.pop()
        self.out.append(c.STOP)

    def field(self, kind: int, number: int) -> None:
        if kind == BOOL:
            self._field = number
        else:
            self._head(_COMPACT[kind], number)

    def _head(self, kind: int, number: int) -> None:
        delta = number - self._ids[-1]
        self._ids[-1] = number
        if 0 < delta <= 15:
            self.out.append(delta << 4 | kind)
        else:
            self.out.append(kind)
            self.out += c.write_varint(c.zigzag(number))

    def boolean(self, value: bool) -> None:
        kind = c.TRUE if value else c.FALSE
        if self._field is None:
            self.out.append(kind)
        else:
            self._head(kind, self._field)
            self._field = None

    def integer(self, kind: int, number: int) -> None:
        self.out += c.write_varint(c.zigzag(number))

    def double(self, data: bytes) -> None:
        self.out += data[::-1]

    def text(self, data: bytes) -> None:
        self.out += c.write_varint(len(data)) + data

    def map_head(self, key: int, value: int, count: int) -> None:
        self.out += c.write_varint(count)
        if count:
            self.out.append(_COMPACT[key] << 4 | _COMPACT[value])

    def list_head(self, element: int, count: int) -> None:
        short = min(count, c.LONG_COUNT)
        self.out.append(short << 4 | _COMPACT.get(element, c.TRUE))
        if short == c.LONG_COUNT:
            self.out += c.write_varint(count)


Reader: TypeAlias = BinaryReader | CompactReader
Writer: TypeAlias = BinaryWriter | CompactWriter
