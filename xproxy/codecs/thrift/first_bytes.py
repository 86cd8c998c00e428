"""Does a connection begin with a call of Thrift? Judged by the decoder's own reading of the head, and what follows.

Rules of this file:

* A length first means nothing: Kafka, Pulsar, DNS over TCP and many others begin with one. So a head is read to its
  end (kind, name, sequence id) by the encoding itself; a connection begins with a call; the name is text; the head
  fits the frame; and where there is no frame, a struct begins behind it.
* Until a magic number is seen, or where there is none (the old binary head), what is missing is faint.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from xproxy.codecs.api import NO, YES, Verdict
from xproxy.codecs.message_wire import Malformed
from xproxy.codecs.thrift import header
from xproxy.codecs.thrift.compact import LAST_TYPE
from xproxy.codecs.thrift.dialect import ENCODINGS, Protocol
from xproxy.codecs.thrift.encoding import CALL, MAX_NAME_BYTES, ONEWAY, is_name

LONGEST_FRAME: Final = 16_384_000
"""Thrift's usual limit; a first message above it is something else."""

_DUBBO: Final = b"\xda\xbc"
"""Dubbo over Thrift: a frame of another kind."""
_MAGIC: Final[Mapping[Protocol, tuple[bytes, ...]]] = {
    Protocol.STRICT: (b"\x80\x01\x00\x01", b"\x80\x01\x00\x04"),
    Protocol.COMPACT: (b"\x82\x21", b"\x82\x81"),
    Protocol.JSON: (b'[1,"',),
    Protocol.OLD: (b"\x00\x00\x00", b"\x00\x00\x01\x00"),
}
"""How a head begins; the old one with the length of its name."""
_PROTOCOLS: Final = {
    0x80: Protocol.STRICT,
    0x82: Protocol.COMPACT,
    0x5B: Protocol.JSON,
    0x00: Protocol.OLD,
}
"""By the first byte of a head, and by the fifth of a message with a frame."""
_FIELD_TYPES: Final = frozenset((0, 2, 3, 4, 6, 8, 10, 11, 12, 13, 14, 15, 16))
"""What a struct can begin with in the binary protocol (thrift: TType), 0 being its end."""
_STRUCT: Final[Mapping[Protocol, Callable[[int], bool]]] = {
    Protocol.STRICT: _FIELD_TYPES.__contains__,
    Protocol.OLD: _FIELD_TYPES.__contains__,
    Protocol.COMPACT: lambda byte: byte == 0 or 1 <= byte & 0x0F <= LAST_TYPE,
    Protocol.JSON: ord("{").__eq__,
}
_NAME_AT: Final = {Protocol.STRICT: 8, Protocol.OLD: 4}
_NO_TEXT: Final = re.compile(rb"[\x00-\x1f\x7f]")


def judge(prefix: bytes) -> Verdict:
    """Judge the first bytes of a connection."""
    if not prefix:
        return Verdict.more(1)
    protocol = _PROTOCOLS.get(prefix[0])
    if protocol is None:
        return NO
    if protocol is not Protocol.OLD:
        return _head(protocol, prefix, 0, None)
    size = len(prefix)
    if size < 5:
        if size == 4 and not 0 < int.from_bytes(prefix) <= LONGEST_FRAME:
            return NO
        return Verdict.more(size + 1, faint=True)
    length = int.from_bytes(prefix[:4])
    if not 0 < length <= LONGEST_FRAME:
        return NO
    if prefix[4] == header.MAGIC[0]:
        return _with_header(prefix, size, 4 + length)
    protocol = _PROTOCOLS.get(prefix[4])
    if protocol is not None:
        return _head(protocol, prefix, 4, 4 + length)
    if length > MAX_NAME_BYTES or prefix[4:6] == _DUBBO:
        return NO
    return _head(Protocol.OLD, prefix, 0, None)


def _head(protocol: Protocol, prefix: bytes, at: int, end: int | None) -> Verdict:
    """Judge the head that begins at ``at``, in a frame that ends at ``end``; None: in none."""
    size = len(prefix)
    seen = prefix[at : at + 4]
    if not any(seen.startswith(magic) or magic.startswith(seen) for magic in _MAGIC[protocol]):
        return NO
    known = protocol is not Protocol.OLD and len(seen) >= len(_MAGIC[protocol][0])
    more = Verdict.more(size + 1, faint=not known)
    if len(seen) < 4:
        return more
    encoding = ENCODINGS[protocol]
    try:
        parts = encoding.read_head(prefix, at, size)
    except Malformed:
        return NO
    if isinstance(parts, int):
        if end is not None and at + parts > end:
            return NO
        name_at = _NAME_AT.get(protocol)
        if name_at is not None:
            if prefix[at + name_at - 4 : at + name_at] == bytes(4):
                return NO  # a call has a name
            # Of the old head type and sequence id follow the name; of the strict one only the latter.
            name_end = at + parts - (4 if protocol is Protocol.STRICT else 5)
            if _NO_TEXT.search(prefix, at + name_at, min(size, name_end)) is not None:
                return NO
        return more
    kind, name, _, body = parts
    if kind not in (CALL, ONEWAY) or not name or not is_name(name):
        return NO
    if end is not None:
        return YES if body + len(encoding.tail) <= end else NO
    if size <= body:
        return more
    return YES if _STRUCT[protocol](prefix[body]) else NO


def _with_header(prefix: bytes, size: int, end: int) -> Verdict:
    """Judge a THeader: its protocol and its transforms, which come first in the header."""
    if prefix[4:6] != header.MAGIC[: size - 4]:
        return NO
    if size < header.FIXED:
        return Verdict.more(size + 1, faint=size < 6)
    start = header.FIXED + 4 * int.from_bytes(prefix[12:14])
    if start >= end or start == header.FIXED:
        return NO
    block = prefix[header.FIXED : min(start, size)]
    try:
        whole = header.begins(block)
    except Malformed:
        return NO
    if whole:
        return YES
    return Verdict.more(size + 1) if size < start else NO
