"""The JSON protocol: heads, exceptions, and where a message ends (thrift: TJSONProtocol).

No peer writes blanks: a head is one regular expression. What is between its comma and the last bracket is passed on
as it is.
"""

from __future__ import annotations

import json
import re
from typing import Final

from xproxy.codecs.message_wire import Malformed
from xproxy.codecs.thrift.encoding import (
    MASK,
    MAX_DEPTH,
    MAX_NAME_BYTES,
    HeadParts,
    Walker,
    check_depth,
    check_kind,
    check_name_length,
)

_START: Final = b'[1,"'
_HEAD: Final = re.compile(rb'\[1,"((?:[^"\\\x00-\x1f]|\\.)*)",(\d),(-?\d{1,10}),')
_UNFINISHED: Final = re.compile(
    rb'\[1,"(?:[^"\\\x00-\x1f]|\\.)*(?:\\|"(?:,(?:\d(?:,(?:-?\d{0,10})?)?)?)?)?'
)
"""A head of which the end has not come."""
_LONGEST_HEAD: Final = 6 * MAX_NAME_BYTES + len(b'[1,"",1,-2147483648,')
"""Each byte of the name may be an escape of six."""
_CODE: Final = re.compile(rb'"2":\{"i32":(-?\d{1,10})\}')
_INSIDE: Final = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_PLAIN: Final = rb'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+")'
_OUTSIDE: Final = re.compile(_PLAIN + rb"*+", re.DOTALL)
"""What opens and closes nothing; strings that are there as a whole."""
_FLAT: Final = re.compile(rb"(?:%b|\{%b*+\}|\[%b*+\])*+" % (_PLAIN, _PLAIN, _PLAIN), re.DOTALL)
"""The same, and what is closed again before anything else is opened."""
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
            begun = size - at < len(_START) and _START.startswith(buffer[at:size])
            if begun or (size - at < _LONGEST_HEAD and _UNFINISHED.fullmatch(buffer, at, size)):
                return size - at + 1
            raise Malformed("no head of the JSON protocol")
        name = found[1]
        if b"\\" in name or not name.isascii():
            name = _unescaped(name)
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
        if b'"' in name or b"\\" in name:
            name = name.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
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


def _unescaped(name: bytes) -> bytes:
    """Return what a name in quotes says. Raises Malformed."""
    try:
        return str(json.loads(b'"%b"' % name)).encode()
    except ValueError:  # no UTF-8, no such escape, half a surrogate pair
        raise Malformed("a name that is no text in JSON") from None


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
            outside = _FLAT if len(opened) < MAX_DEPTH else _OUTSIDE
            pattern = _INSIDE if self._quoted else outside
            found = pattern.match(buffer, at, end)
            assert found is not None  # of nothing, if of no more
            at = found.end()
            if at >= end:
                break
            byte = buffer[at]
            at += 1
            if byte == _QUOTE:
                self._quoted = not self._quoted
            elif self._quoted:
                at += 1  # a backslash: what is escaped is not there yet
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
