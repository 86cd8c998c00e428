"""The JSON protocol: heads, exceptions, and where a message ends (thrift: TJSONProtocol).

No peer writes blanks, and names are identifiers: a head is one regular expression. What is between its comma and the
last bracket is passed on as it is.
"""

from __future__ import annotations

import re
from typing import Final

from xproxy.codecs.messages import Malformed
from xproxy.codecs.thrift.encoding import (
    MASK,
    MAX_NAME_BYTES,
    HeadParts,
    Walker,
    check_depth,
    check_kind,
    check_name_length,
)

_HEAD: Final = re.compile(rb'\[1,"([A-Za-z0-9_.:]*)",(\d),(-?\d{1,10}),')
_LONGEST_HEAD: Final = MAX_NAME_BYTES + len(b'[1,"",1,-2147483648,')
_CODE: Final = re.compile(rb'"2":\{"i32":(-?\d{1,10})\}')
_OUTSIDE: Final = re.compile(rb'["\[\]{}]')
_INSIDE: Final = re.compile(rb'["\\]')
_QUOTE: Final = ord('"')
_BRACE: Final = ord("{")
_CLOSING: Final = {_BRACE: ord("}"), ord("["): ord("]")}
_ESCAPES: Final = {ord(c): f"\\u{ord(c):04x}" for c in [*map(chr, range(32)), '"', "\\"]}


class JsonEncoding:
    """The JSON protocol."""

    family: Final = "json"
    tail: Final = b"]"
    empty: Final = b"{}"

    def read_head(self, buffer: bytes, at: int, size: int) -> HeadParts | int:
        """See Encoding."""
        found = _HEAD.match(buffer, at, size)
        if found is None:
            if size - at < _LONGEST_HEAD:
                return size - at + 1
            raise Malformed("no head of the JSON protocol")
        name = found[1]
        check_name_length(len(name))
        kind = int(found[2])
        check_kind(kind)
        seqid = int(found[3])
        if not -(1 << 31) <= seqid <= MASK:
            raise Malformed(f"sequence id {seqid}")
        return kind, name, seqid & MASK, found.end()

    def write_head(self, kind: int, name: bytes, seqid: int) -> bytes:
        """See Encoding."""
        signed = seqid - (1 << 32) if seqid >> 31 else seqid
        return b'[1,"%b",%d,%d,' % (name, kind, signed)

    def walker(self, pos: int, limit: int) -> Walker:
        """See Encoding."""
        return JsonWalker(pos, limit)

    def exception(self, code: int, text: str) -> bytes:
        """See Encoding."""
        escaped = text.translate(_ESCAPES).encode("utf-8", "replace")
        return b'{"1":{"str":"%b"},"2":{"i32":%d}}' % (escaped, code)

    def exception_code(self, data: bytes) -> int:
        """See Encoding. Quotes inside a string are escaped: the pattern cannot occur in one."""
        found = _CODE.search(data)
        return int(found[1]) if found is not None else 0

    def declared(self, data: bytes) -> bool:
        """See Encoding."""
        return data != self.empty and data.startswith(b'{"') and not data.startswith(b'{"0"')


class JsonWalker:
    """See Walker: matches brackets outside of strings."""

    __slots__ = ("_done", "_limit", "_open", "_quoted", "need", "pos")

    def __init__(self, pos: int, limit: int) -> None:
        self.pos = pos
        self.need = pos + 1
        self._limit = limit
        self._open = bytearray()  # the brackets that would close what is open
        self._quoted = False
        self._done = False

    def walk(self, buffer: bytes | bytearray, base: int, size: int) -> bool:
        """See Walker."""
        if self._done:
            return True
        opened = self._open
        end = min(size, base + self._limit)
        at = base + self.pos
        if not opened and at < end:
            if buffer[at] != _BRACE:
                raise Malformed("no struct of the JSON protocol")
            opened.append(_CLOSING[_BRACE])
            at += 1
        while opened and at < end:
            found = (_INSIDE if self._quoted else _OUTSIDE).search(buffer, at, end)
            if found is None:
                at = end
                break
            at = found.end()
            byte = buffer[at - 1]
            if byte == _QUOTE:
                self._quoted = not self._quoted
            elif self._quoted:
                at += 1  # what is escaped
            elif byte in _CLOSING:
                opened.append(_CLOSING[byte])
                check_depth(len(opened))
            elif opened.pop() != byte:
                raise Malformed("brackets do not match")
            elif not opened:
                self._done = True
                self.pos = self.need = at - base
                return True
        self.pos, self.need = at - base, at - base + 1
        if self.need > self._limit:
            raise Malformed(f"message of {self.need} bytes or more, limit {self._limit}")
        return False
