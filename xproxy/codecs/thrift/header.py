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

from xproxy.codecs.messages import Malformed
from xproxy.codecs.thrift.compact import read_varint, write_varint
from xproxy.codecs.thrift.dialect import Protocol
from xproxy.model.errors import LocalProtocolError
from xproxy.model.headers import NO_HEADERS, Headers

MAGIC: Final = b"\x0f\xff"
FIXED: Final = 14
"""Bytes before the header, the length among them."""
MAX_WORDS: Final = 0xFFFF
ZLIB: Final = 1
_MAX_TRANSFORMS: Final = 4
_FIELDS: Final = 1
_STICKY_FIELDS: Final = 2
"""fbthrift: they hold for later messages, too; here for the one that they came with."""

_NUMBERS: Final = {Protocol.STRICT: 0, Protocol.OLD: 0, Protocol.COMPACT: 2}
COMPACT: Final = 2
MEMO_BYTES: Final = 2048
"""Longer headers are worked out each time: what is remembered must stay within a few MiB."""
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


def wrap(
    payload: bytes, flags: int, seqid: int, block: bytes, transforms: tuple[int, ...]
) -> bytes:
    """Put the header ``block``, which names ``transforms``, before a payload, and apply them to that."""
    for _ in transforms:  # all that are known are ZLIB
        payload = zlib.compress(payload)
    size = FIXED - 4 + len(block) + len(payload)
    return _FIXED.pack(size, MAGIC, flags, seqid, len(block) // 4) + block + payload


def undo(payload: bytes, transforms: tuple[int, ...], limit: int) -> bytes:
    """Undo the transforms, of which the last was applied last. Raises Malformed, also above ``limit`` bytes."""
    for _ in transforms:
        inflater = zlib.decompressobj()
        try:
            payload = inflater.decompress(payload, limit + 1)
        except zlib.error as exc:
            raise Malformed("a payload that is not zlib's") from exc
        # A small message can hold a huge one: what is above the limit is never made.
        if len(payload) > limit:
            raise Malformed(f"a payload that unpacks to more than {limit} bytes")
        if not inflater.eof or inflater.unused_data:
            raise Malformed("a payload that is not one whole stream of zlib's")
    return payload
