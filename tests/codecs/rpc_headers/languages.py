"""What packages of others do (protobuf, bson, tars), as much of it as heads need: for the codecs beside."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any

from xproxy.api import read_sized, read_varint, write_sized, write_varint

# ---- texts behind their lengths


def read_text(data: bytes, at: int, width: int) -> tuple[str, int]:
    raw, end = read_sized(data, at, width)
    return raw.decode(), end


def write_text(text: str, width: int) -> bytes:
    return write_sized(text.encode(), width)


def read_pairs(data: bytes, width: int) -> tuple[tuple[str, str], ...]:
    """Read texts up to the end: names and values."""
    at = 0
    words: list[str] = []
    while at < len(data):
        word, at = read_text(data, at, width)
        words.append(word)
    return tuple(zip(words[::2], words[1::2], strict=True))


def write_pairs(pairs: Iterable[tuple[str, str]], width: int) -> bytes:
    return b"".join(write_text(word, width) for pair in pairs for word in pair)


# ---- Protocol Buffers


def read_fields(data: bytes) -> dict[int, Any]:  # Any: numbers and bytes
    """Return the fields of a message by number; the last of one number counts."""
    found: dict[int, Any] = {}  # Any: as above
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        found[tag >> 3], at = read_varint(data, at)
        if tag & 7 == 2:
            start, at = at, at + found[tag >> 3]
            found[tag >> 3] = data[start:at]
        elif tag & 7:
            raise ValueError("a field of another type")
    if at > len(data):
        raise ValueError("a field breaks off")
    return found


def write_field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return write_varint(number << 3) + write_varint(value)
    return write_varint(number << 3 | 2) + write_varint(len(value)) + value


# ---- BSON

_SIZES = {1: 8, 7: 12, 8: 1, 9: 8, 10: 0, 16: 4, 17: 8, 18: 8, 19: 16}


def read_bson(data: bytes) -> dict[str, Any]:  # Any: floats, texts and numbers; bytes of all else
    """Return what a document without its size says."""
    found: dict[str, Any] = {}  # Any: as above
    at = 0
    while data[at]:
        end = data.index(0, at + 1)
        kind, name, at = data[at], data[at + 1 : end].decode(), end + 1
        size = _SIZES.get(kind, 0)
        if kind in (2, 3, 4, 5):
            size = int.from_bytes(data[at : at + 4], "little") + {3: 0, 4: 0, 5: 5}.get(kind, 4)
        elif kind not in _SIZES:
            raise ValueError("a value of an unknown type")
        if at + size > len(data) - 1 or (kind in (3, 4) and size < 5):
            raise ValueError("an element breaks off")
        found[name] = value = data[at : at + size]
        if kind == 1:
            (found[name],) = struct.unpack("<d", value)
        elif kind == 2:
            found[name] = value[4:-1].decode()
        elif kind == 16:
            found[name] = int.from_bytes(value, "little", signed=True)
        at += size
    if at != len(data) - 1:
        raise ValueError("something behind the document")
    return found


def write_bson(values: Mapping[str, float | int | str]) -> bytes:
    """Write a document without its size."""
    out = b""
    for name, value in values.items():
        kind, raw = 1, b""
        if isinstance(value, str):
            kind, raw = 2, value.encode() + b"\0"
            raw = len(raw).to_bytes(4, "little") + raw
        elif isinstance(value, int):
            kind, raw = 16, value.to_bytes(4, "little", signed=True)
        else:
            raw = struct.pack("<d", value)
        out += bytes([kind]) + name.encode() + b"\0" + raw
    return out + b"\0"


# ---- Tars


def read_packet(data: bytes) -> dict[int, Any]:  # Any: numbers, bytes, pairs of texts
    """Return the fields of a packet by tag."""
    found: dict[int, Any] = {}  # Any: as above
    at = 0
    while at < len(data):
        tag, value, at = _tars(data, at)
        found[tag] = value
    return found


def _tars(data: bytes, at: int) -> tuple[int, Any, int]:  # Any: as above
    tag, kind, at = data[at] >> 4, data[at] & 15, at + 1
    if kind == 12:
        return tag, 0, at
    if kind < 4:
        end = at + (1 << kind)
        return tag, int.from_bytes(data[at:end], signed=True), end
    if kind in (6, 7):
        return tag, *read_sized(data, at, 1 if kind == 6 else 4)
    if kind == 13 and data[at] == 0:
        _, size, start = _tars(data, at + 1)
        if not 0 <= size <= len(data) - start:
            raise ValueError("a field breaks off")
        return tag, data[start : start + size], start + size
    if kind != 8:
        raise ValueError("a type that no packet has")
    _, count, at = _tars(data, at)
    words: list[str] = []
    for _ in range(2 * count):
        _, text, at = _tars(data, at)
        words.append(text.decode())
    return tag, tuple(zip(words[::2], words[1::2], strict=True)), at


def tars(tag: int, value: int | str | bytes | tuple[tuple[str, str], ...]) -> bytes:
    """Write a field."""
    if isinstance(value, int):
        return bytes([tag << 4 | 2]) + value.to_bytes(4, signed=True)
    if isinstance(value, str):
        return bytes([tag << 4 | 7]) + write_sized(value.encode(), 4)
    if isinstance(value, bytes):
        return bytes([tag << 4 | 13, 0]) + tars(0, len(value)) + value
    pairs = b"".join(tars(0, key) + tars(1, text) for key, text in value)
    return bytes([tag << 4 | 8]) + tars(0, len(value)) + pairs
