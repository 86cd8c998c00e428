"""The binary protocol, strict and old: heads and exceptions (thrift: TBinaryProtocol)."""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import Final

from xproxy.codecs.message_wire import Malformed
from xproxy.codecs.thrift.encoding import HeadParts, Walker, check_kind, check_name_length
from xproxy.codecs.thrift.walker import LENGTH, STOP, STRING, BinaryWalker

STRICT_MAGIC: Final = 0x80010000

_U32: Final = Struct(">I").unpack_from
_PAIR: Final = Struct(">II").unpack_from
_pack: Final = Struct(">I").pack
_EXCEPTION_TEXT: Final = b"\x0b\x00\x01"
_EXCEPTION_TYPE: Final = b"\x08\x00\x02"


@lru_cache(maxsize=1024)
def _prefix(strict: bool, kind: int, name: bytes) -> bytes:
    if strict:
        return _pack(STRICT_MAGIC | kind) + _pack(len(name)) + name
    return b"%b%b%c" % (_pack(len(name)), name, kind)


class BinaryEncoding:
    """The binary protocol; old heads have no version, and their name comes first."""

    family: Final = "binary"
    tail: Final = b""
    empty: Final = b"\x00"

    def __init__(self, *, strict: bool) -> None:
        self.strict: Final = strict

    def read_head(self, buffer: bytes, at: int, size: int) -> HeadParts | int:
        """See Encoding."""
        return (
            self._read_strict(buffer, at, size) if self.strict else self._read_old(buffer, at, size)
        )

    @staticmethod
    def _read_strict(buffer: bytes, at: int, size: int) -> HeadParts | int:
        if size - at < 8:
            return 8
        magic: int
        length: int
        magic, length = _PAIR(buffer, at)
        if magic & 0xFFFFFF00 != STRICT_MAGIC:
            raise Malformed(f"version {magic >> 8:06x} of the binary protocol")
        kind = magic & 0xFF
        check_kind(kind)
        check_name_length(length)
        body = at + 12 + length
        if body > size:
            return body - at
        seqid: int = _U32(buffer, body - 4)[0]
        return kind, buffer[at + 8 : body - 4], seqid, body

    @staticmethod
    def _read_old(buffer: bytes, at: int, size: int) -> HeadParts | int:
        if size - at < 4:
            return 4
        length: int = _U32(buffer, at)[0]
        check_name_length(length)
        body = at + 9 + length
        if body > size:
            return body - at
        kind = buffer[body - 5]
        check_kind(kind)
        seqid: int = _U32(buffer, body - 4)[0]
        return kind, buffer[at + 4 : body - 5], seqid, body

    def write_head(self, kind: int, name: bytes, seqid: int) -> bytes:
        """See Encoding."""
        return _prefix(self.strict, kind, name) + _pack(seqid)

    def walker(self, pos: int, limit: int) -> Walker:
        """See Encoding."""
        return BinaryWalker(pos, limit)

    def exception(self, code: int, text: str) -> bytes:
        """See Encoding."""
        message = text.encode("utf-8", "replace")
        return b"%b%b%b%b%b\x00" % (
            _EXCEPTION_TEXT,
            _pack(len(message)),
            message,
            _EXCEPTION_TYPE,
            _pack(code),
        )

    def exception_code(self, data: bytes) -> int:
        """See Encoding."""
        at = 0
        while at + 7 <= len(data):
            kind = data[at]
            value = LENGTH(data, at + 3)[0]
            if data[at : at + 3] == _EXCEPTION_TYPE:
                return int(value)
            if kind != STRING or value < 0:
                break
            at += 7 + value
        return 0

    def declared(self, data: bytes) -> bool:
        """See Encoding."""
        return len(data) > 3 and data[0] != STOP and data[1:3] != b"\x00\x00"
