"""THeader: a frame whose message has a header of fields, and may be transformed (thrift: THeaderTransport).

``length · 0FFF · flags 2 · sequence id 4 · words 2 · header of 4 × words bytes · payload``; the header is ``varint
protocol, varint count, varint transforms…``, then blocks of information, then zeros.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from struct import Struct
from typing import Final

import attrs

from xproxy.codecs.message_wire import Malformed
from xproxy.codecs.slices import Work
from xproxy.codecs.thrift.compact import read_varint, write_varint
from xproxy.codecs.thrift.dialect import Protocol
from xproxy.model.errors import LocalProtocolError
from xproxy.model.headers import NO_HEADERS, Headers

MAGIC: Final = b"\x0f\xff"
FIXED: Final = 14
"""Bytes before the header, the length among them."""
MAX_WORDS: Final = 0xFFFF
ZLIB: Final = 1
_MAX_TRANSFORMS: Final = 1
"""The only one is zlib, and what was packed already is not packed again."""
_FIELDS: Final = 1
_STICKY_FIELDS: Final = 2
"""fbthrift: they hold for later messages, too; here for the one that they came with."""

_NUMBERS: Final = {Protocol.STRICT: 0, Protocol.OLD: 0, Protocol.COMPACT: 2}
COMPACT: Final = 2
MEMO_BYTES: Final = 2048
"""Longer headers are worked out each time: what is remembered must stay within a few MiB."""
_PACKED_AT_ONCE: Final = 32 * 1024
"""Bytes that are packed at a time, before others may have their turn: a millisecond's worth, the worst of them."""
UNPACKED_AT_ONCE: Final = 256 * 1024
"""Bytes that are made of a packed payload at a time, likewise."""
_TAKEN_AT_ONCE: Final = 64 * 1024
_WORST_PACKED: Final = 4
"""Times as many bytes as it has a payload may be packed to: who packs badly, or flushes often, stays below."""
_ZLIB_START: Final = b"\x78\x9c"
_FIXED: Final = Struct(">I2sHIH")
_BINARY_PROTOCOL: Final = 0


@attrs.frozen
class HeaderFacts:
    """A header as it was read."""

    protocol: int
    """0 binary, 2 compact."""
    transforms: tuple[int, ...]
    headers: Headers


NO_HEADER: Final = HeaderFacts(_BINARY_PROTOCOL, (), NO_HEADERS)


class _Reader:
    """Takes values off a header. Raises Malformed where it ends too early."""

    def __init__(self, block: bytes) -> None:
        self._block = block
        self.at = 0

    @property
    def ended(self) -> bool:
        return self.at >= len(self._block)

    def number(self) -> int:
        value, end = read_varint(self._block, self.at, len(self._block))
        if end < 0:
            raise Malformed("a header that ends inside a number")
        self.at = end
        return value

    def text(self) -> str:
        length = self.number()
        start, self.at = self.at, self.at + length
        if self.at > len(self._block):
            raise Malformed(f"a header field of {length} bytes that ends behind its header")
        return self._block[start : self.at].decode("utf-8", "surrogateescape")


def begins(block: bytes) -> bool:
    """Tell whether protocol and transforms, which come first, are there. Raises Malformed for unknown ones."""
    protocol, at = read_varint(block, 0, len(block))
    if at >= 0 and protocol not in (_BINARY_PROTOCOL, COMPACT):
        raise Malformed(f"protocol {protocol} in a THeader")
    count, at = read_varint(block, at, len(block)) if at >= 0 else (0, -1)
    if at >= 0 and count > _MAX_TRANSFORMS:
        raise Malformed(f"{count} transforms, limit {_MAX_TRANSFORMS}")
    for _ in range(count):
        transform, at = read_varint(block, at, len(block)) if at >= 0 else (ZLIB, -1)
        if transform != ZLIB and at >= 0:
            raise Malformed(f"transform {transform}")
    return at >= 0


def _read(block: bytes, max_headers: int) -> HeaderFacts:
    reader = _Reader(block)
    protocol = reader.number()
    if protocol not in (_BINARY_PROTOCOL, COMPACT):
        raise Malformed(f"protocol {protocol} in a THeader")
    count = reader.number()
    if count > _MAX_TRANSFORMS:
        raise Malformed(f"{count} transforms, limit {_MAX_TRANSFORMS}")
    transforms = tuple([reader.number() for _ in range(count)])
    for transform in transforms:
        if transform != ZLIB:
            raise Malformed(f"transform {transform}")
    fields: list[tuple[str, str]] = []
    while not reader.ended and reader.number() in (_FIELDS, _STICKY_FIELDS):
        pairs = reader.number()
        if len(fields) + pairs > max_headers:
            raise Malformed(f"more than {max_headers} header fields")
        for _ in range(pairs):
            name = reader.text()
            fields.append((name, reader.text()))
    return HeaderFacts(protocol, transforms, Headers(fields) if fields else NO_HEADERS)


_remembered = lru_cache(maxsize=512)(_read)


def read_header(block: bytes, max_headers: int) -> HeaderFacts:
    """Read a header. Raises Malformed, also for a protocol or a transform that is not known here."""
    read = _remembered if len(block) <= MEMO_BYTES else _read
    return read(block, max_headers)


def write_header(protocol: Protocol, transforms: tuple[int, ...], headers: Headers) -> bytes:
    """Write a header. Raises LocalProtocolError for one that is too long."""
    return _write(protocol, transforms, headers) if headers else _plain(protocol, transforms)


@lru_cache(maxsize=64)
def _plain(protocol: Protocol, transforms: tuple[int, ...]) -> bytes:
    return _write(protocol, transforms, NO_HEADERS)


def _write(protocol: Protocol, transforms: tuple[int, ...], headers: Headers) -> bytes:
    number = _NUMBERS.get(protocol)
    if number is None:
        raise LocalProtocolError(f"THeader has no protocol {protocol.value}")
    parts = [write_varint(number), write_varint(len(transforms)), *map(write_varint, transforms)]
    if headers:
        parts += [write_varint(_FIELDS), write_varint(len(headers))]
        for pair in headers:
            for text in pair:
                encoded = _bytes(text)
                parts += [write_varint(len(encoded)), encoded]
    block = b"".join(parts)
    block += bytes(-len(block) % 4)
    if len(block) > 4 * MAX_WORDS:
        raise LocalProtocolError(f"a header of {len(block)} bytes, limit {4 * MAX_WORDS}")
    return block


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as exc:
        raise LocalProtocolError("a header field that is no text") from exc


def pack(payload: bytes, transforms: tuple[int, ...]) -> bytes:
    """Apply transforms."""
    return zlib.compress(payload) if transforms else payload


def deflating(data: bytes) -> Work[bytes]:
    """Deflate the end of a payload, before it is known how that begins: see ``pack_deflated`` (RFC 1951)."""
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    parts: list[bytes] = []
    with memoryview(data) as view:
        for at in range(0, len(data), _PACKED_AT_ONCE):
            parts.append(deflater.compress(view[at : at + _PACKED_AT_ONCE]))
            yield
    parts.append(deflater.flush())
    return b"".join(parts)


def pack_deflated(start: bytes, data: bytes, deflated: bytes) -> bytes:
    """Pack ``start`` + ``data``, of which ``data`` was deflated before (RFC 1950)."""
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    first = deflater.compress(start) + deflater.flush(zlib.Z_FULL_FLUSH)
    check = zlib.adler32(data, zlib.adler32(start))
    return b"%b%b%b%b" % (_ZLIB_START, first, deflated, check.to_bytes(4))


def wrap(payload: bytes, flags: int, seqid: int, block: bytes) -> bytes:
    """Put the header ``block`` before a payload, to which the transforms that it names have been applied."""
    size = FIXED - 4 + len(block) + len(payload)
    return _FIXED.pack(size, MAGIC, flags, seqid, len(block) // 4) + block + payload


def undo(payload: bytes | memoryview, limit: int) -> Work[bytes]:
    """Unpack a payload, ``UNPACKED_AT_ONCE`` bytes at most in a slice.

    Raises Malformed, also above ``limit`` bytes, which are never made; and for what makes next to nothing: a block of
    deflate may be empty, and millions of them would take their time.
    """
    inflater = zlib.decompressobj()
    parts: list[bytes] = []
    made = taken = most = 0
    with memoryview(payload) as rest:
        while not inflater.eof:
            chunk: bytes | memoryview = inflater.unconsumed_tail
            if not chunk:
                chunk = rest[taken : taken + _TAKEN_AT_ONCE]
                taken += len(chunk)
                if not chunk and not (parts and len(parts[-1]) == most):
                    break  # else it may have more to give
            if parts:
                yield
            most = min(UNPACKED_AT_ONCE, limit + 1 - made)
            try:
                part = inflater.decompress(chunk, most)
            except zlib.error as exc:
                raise Malformed("a payload that is not zlib's") from exc
            parts.append(part)
            made += len(part)
            if made > limit:
                raise Malformed(f"a payload that unpacks to more than {limit} bytes")
            if taken > _WORST_PACKED * made + _TAKEN_AT_ONCE:
                raise Malformed("a payload that is packed to many times its size")
    if not inflater.eof or inflater.unused_data or taken < len(payload):
        raise Malformed("a payload that is not one whole stream of zlib's")
    return b"".join(parts)
