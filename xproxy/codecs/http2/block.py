"""Header blocks: bytes ⇄ fields (RFC 7541 §§3, 5, 6). Pure functions of a table and their input.

The `hpack` package gives the static table and Huffman's code, and is the oracle of the tests. Its decoder and encoder
are objects with a past, so nothing of what they do could be remembered, and they look at every bit of a block anew.

Rules of this file: every bound is enforced while decoding, before anything is kept; whatever is not plainly right
is a COMPRESSION_ERROR, as from here on the two tables would differ (RFC 9113 §4.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from xproxy.codecs.http2 import huffman
from xproxy.codecs.http2.faults import ConnectionFault, Oversized
from xproxy.codecs.http2.limits import HEADS_READ
from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.table import (
    FIRST_DYNAMIC,
    STATIC,
    STATIC_FIELDS,
    STATIC_NAMES,
    Change,
    Field,
    Secret,
    Table,
    size_of,
)

_MAX_INTEGER_BYTES: Final = 5
"""Of an integer, its prefix included: enough for every length and index there can be (RFC 7541 §5.1)."""
_MAX_SIZE_UPDATES: Final = 2
"""At the start of a block: the smallest since the last block, and the last (RFC 7541 §4.2)."""
_DIALECT: Final = "content-type"
"""Says of a request that is refused whether its sender understands HTTP's codes or gRPC's."""
_REMEMBERED_STRING: Final = 128
"""Bytes; longer strings recur too seldom."""

_HUFFMAN: Final = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)

# Fields whose values differ from message to message: in the table they would push out those that recur. The first
# two lines are nghttp2's.
_NOT_INDEXED: Final = frozenset(
    {
        *(":path", "age", "content-length", "content-range", "etag", "if-modified-since"),
        *("if-none-match", "if-range", "location", "set-cookie", "range", "last-modified"),
        *("x-request-id", "traceparent", "tracestate", "x-b3-traceid", "x-b3-spanid"),
        *("x-b3-parentspanid", "uber-trace-id", "grpc-timeout", "grpc-message"),
        *("x-envoy-upstream-service-time", "idempotency-key", "sec-websocket-key"),
    }
)
# What is worth guessing must not be guessed by how well it compresses (RFC 7541 §7.1.3).
_NEVER_INDEXED: Final = frozenset({"authorization", "proxy-authorization"})
_SHORT_COOKIE: Final = 20
"""Characters below which a cookie might be guessed (nghttp2's bound)."""


def _broken(detail: str) -> ConnectionFault:
    return ConnectionFault(ErrorCode.COMPRESSION_ERROR, detail)


_small_huffman_text: Final = lru_cache(maxsize=4096)(huffman.decode)


def _huffman_text(data: bytes) -> str:
    try:
        if len(data) <= _REMEMBERED_STRING:
            return _small_huffman_text(data)
        return huffman.decode(data)
    except ValueError as exc:
        raise _broken("malformed Huffman code in a header block") from exc


def _read_integer(block: bytes, position: int, mask: int) -> tuple[int, int]:
    """Return (integer, position behind it); ``mask`` has the bits of its prefix."""
    number = block[position] & mask
    position += 1
    if number < mask:
        return number, position
    shift = 0
    for octet in block[position : position + _MAX_INTEGER_BYTES - 1]:
        position += 1
        number += (octet & 0x7F) << shift
        if octet < 0x80:
            return number, position
        shift += 7
    if shift == 7 * (_MAX_INTEGER_BYTES - 1):
        raise _broken(f"an integer of above {_MAX_INTEGER_BYTES} octets in a header block")
    raise _broken("a header block that ends within an integer")


def _read_string(block: bytes, position: int) -> tuple[str, int]:
    if position >= len(block):
        raise _broken("a header block that ends before a string")
    length = block[position] & 0x7F
    coded = block[position] >= 0x80
    if length < 0x7F:
        position += 1
    else:
        length, position = _read_integer(block, position, 0x7F)
    end = position + length
    if end > len(block):
        raise _broken("a header block that ends within a string")
    data = block[position:end]
    return _huffman_text(data) if coded else data.decode("latin-1"), end


class _Reader:
    """One block being read."""

    __slots__ = ("block", "change", "table")

    def __init__(self, block: bytes, table: Table) -> None:
        self.block = block
        self.table = table
        self.change: Change | None = None

    def entry(self, index: int) -> Field:
        """Return the entry that ``index`` means. Raises ConnectionFault."""
        if index < FIRST_DYNAMIC:
            if index:
                return STATIC[index - 1]
        else:
            place = index - FIRST_DYNAMIC
            if self.change is not None:
                found = self.change.get(place)
                if found is not None:
                    return found
            elif place < len(self.table.entries):
                return self.table.entries[place]
        raise _broken(f"index {index} in a header block means nothing")

    def changed(self) -> Change:
        """Return the table to change."""
        change = self.change
        if change is None:
            change = self.change = Change(self.table)
        return change

    def literal(self, position: int, mask: int) -> tuple[str, str, int]:
        """Read a literal's name and value."""
        index, position = _read_integer(self.block, position, mask)
        if index:
            name = self.entry(index)[0]
        else:
            name, position = _read_string(self.block, position)
        value, position = _read_string(self.block, position)
        return name, value, position


def decode(block: bytes, table: Table, allowed: int, most_bytes: int) -> tuple[list[Field], Table]:
    """Read a whole header block.

    Args:
        block: the fragments of the block, joined.
        table: the table before it.
        allowed: what a size update may ask for at most, in bytes: what we announced and the peer acknowledged.
        most_bytes: bound of the fields as they come out, each counted with ``ENTRY_BYTES``; ``HEADS_READ`` times as
            many are read, and not kept.

    Returns:
        The fields in order, and the table after it.

    Raises:
        ConnectionFault: COMPRESSION_ERROR, or ENHANCE_YOUR_CALM above all that is read.
        Oversized: above ``most_bytes``.

    """
    reader = _Reader(block, table)
    fields: list[Field] = []
    position, size, updates = 0, 0, 0
    end = len(block)
    while position < end:
        octet = block[position]
        if octet >= 0x80:  # §6.1: indexed
            if octet < 0xFF:
                index = octet & 0x7F
                position += 1
            else:
                index, position = _read_integer(block, position, 0x7F)
            field = reader.entry(index)
        elif octet >= 0x40:  # §6.2.1: literal, to be indexed
            name, value, position = reader.literal(position, 0x3F)
            field = (name, value)
            reader.changed().add(field)
        elif octet >= 0x20:  # §6.3: size update
            updates += 1
            if updates > _MAX_SIZE_UPDATES:
                raise _broken(f"above {_MAX_SIZE_UPDATES} table size updates in a header block")
            if size:
                raise _broken("a table size update that is not at the start of its header block")
            maximum, position = _read_integer(block, position, 0x1F)
            if maximum > allowed:
                raise _broken(f"a table size update to {maximum}, limit {allowed}")
            reader.changed().resize(maximum)
            continue
        else:  # §6.2.2, §6.2.3: literal, not indexed, or never
            name, value, position = reader.literal(position, 0x0F)
            field = (name, Secret(value)) if octet & 0x10 else (name, value)
        size += size_of(field)
        if size > most_bytes:
            if size > most_bytes * HEADS_READ:
                # The bomb: few bytes that name a long entry of the table again and again.
                raise ConnectionFault(
                    ErrorCode.ENHANCE_YOUR_CALM,
                    f"header list is above {most_bytes * HEADS_READ} bytes",
                    "max_head_bytes",
                )
            if field[0] != _DIALECT:
                continue
        fields.append(field)
    if reader.change is not None:
        table = reader.change.result()
    if table.maximum > allowed:
        # RFC 7541 §4.2: a bound that was lowered must be confirmed by the next block.
        raise _broken(
            f"a header block without the table size update to {allowed} that was due before it"
        )
    if size > most_bytes:
        raise Oversized(fields, table)
    return fields, table


def _integer(number: int, mask: int, first: int) -> bytes:
    """Return an integer with the bits of ``first`` before its prefix."""
    if number < mask:
        return bytes((first | number,))
    out = bytearray((first | mask,))
    number -= mask
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _plain_string(text: str) -> bytes:
    data = text.encode("latin-1")
    return _integer(len(data), 0x7F, 0) + data


@lru_cache(maxsize=1024)
def _short_string(text: str) -> bytes:
    data = text.encode("latin-1")
    coded = _HUFFMAN.encode(data)
    if len(coded) < len(data):
        return _integer(len(coded), 0x7F, 0x80) + coded
    return _integer(len(data), 0x7F, 0) + data


def _short(text: str) -> bytes:
    """Return a string literal as short as it can be."""
    return _short_string(text) if len(text) <= _REMEMBERED_STRING else _plain_string(text)


def size_updates(sizes: Sequence[int]) -> bytes:
    """Return table size updates, which stand before all else in a block (RFC 7541 §6.3)."""
    return b"".join([_integer(size, 0x1F, 0x20) for size in sizes])


_INDEXED_STATIC: Final[dict[Field, bytes]] = {
    pair: _integer(index, 0x7F, 0x80) for pair, index in STATIC_FIELDS.items() if pair[1]
}


def encode(fields: Sequence[Field], table: Table) -> tuple[bytes, Table]:
    """Write a header block; return it and the table after it.

    Fields are as short as the tables make them. What recurs enters the table in Huffman's code; what does not is
    written plain, as Huffman's code in Python costs more than the bytes it saves.
    """
    parts: list[bytes] = []
    append = parts.append
    change: Change | None = None
    for field in fields:
        name, value = field
        if type(value) is Secret or name in _NEVER_INDEXED:
            append(_literal(name, value, table, change, 0x0F, 0x10, short=False))
            continue
        known = _INDEXED_STATIC.get(field)
        if known is not None:
            append(known)
            continue
        place = _place(field, table, change)
        if place >= 0:
            append(_integer(FIRST_DYNAMIC + place, 0x7F, 0x80))
            continue
        if name == "cookie" and len(value) < _SHORT_COOKIE:
            append(_literal(name, value, table, change, 0x0F, 0x10, short=False))
        elif name in _NOT_INDEXED or size_of(field) * 4 > table.maximum * 3:
            append(_literal(name, value, table, change, 0x0F, 0x00, short=False))
        else:
            append(_literal(name, value, table, change, 0x3F, 0x40, short=True))
            if change is None:
                change = Change(table)
            change.add(field)
    return b"".join(parts), table if change is None else change.result()


def _place(field: Field, table: Table, change: Change | None) -> int:
    """Return where a whole field stands in the dynamic table now; -1: nowhere."""
    if change is None:
        return table.fields.get(field, -1)
    place = table.fields.get(field, -1)
    if place >= 0 and place + change.added < len(change.entries):
        return place + change.added
    for place in range(min(change.added, len(change.entries))):
        if change.entries[-1 - place] == field:
            return place
    return -1


def _literal(
    name: str,
    value: str,
    table: Table,
    change: Change | None,
    mask: int,
    first: int,
    *,
    short: bool,
) -> bytes:
    index = STATIC_NAMES.get(name, 0)
    if not index:
        place = table.names.get(name, -1)
        if place >= 0 and change is not None:
            place = place + change.added if place + change.added < len(change.entries) else -1
        if place >= 0:
            index = FIRST_DYNAMIC + place
    text = _short(value) if short else _plain_string(value)
    if index:
        return _integer(index, mask, first) + text
    return bytes((first,)) + _short(name) + text
