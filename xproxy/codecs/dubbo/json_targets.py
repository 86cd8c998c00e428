"""Whether the attachments of a fastjson or fastjson2 request name another service than its prefix.

A provider believes them, a route the prefix. They follow the arguments: in fastjson each value is a line, in
fastjson2 it has its length before it, so that arguments cost a hop each. In fastjson2 the map is not read: wherever
the name of such an attachment stands in it, its value must follow, as fastjson2 writes it. What cannot be read does
not agree.
(fastjson2: JSONB; Dubbo: FastJsonObjectInput, FastJson2ObjectInput, DecodeableRpcInvocation)
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Final

from xproxy.codecs.dubbo.attachments import TARGETS, VERSION, same_version
from xproxy.codecs.dubbo.json_prefix import FASTJSON, Address
from xproxy.codecs.dubbo.prefix import MEMO_BYTES

UNREADABLE: Final = "the attachments, which may name another service, cannot be read"

_NAMES: Final = (*sorted(TARGETS), VERSION)
_SHORT: Final = 0x49
_SHORT_MOST: Final = 47
_SYMBOL: Final = rb"(?:[\xf0-\xff\x00-\x2f]|[\x30-\x3f].|[\x40-\x47]..|\x48....)"
"""The number that a name gets where names are symbols: an int."""
_UNUSUAL: Final = re.compile(
    rb"\x7f[\xf0-\xff\x00-\x48]"  # a symbol by its number: a name that stands elsewhere
    rb"|p\0a\0t\0h|v\0e\0r\0s\0i\0o\0n|i\0n\0t\0e\0r\0f\0a\0c\0e"  # UTF-16
    rb"|\xc1|\xe0\x81|\xf0\x80"  # more bytes for a letter than it needs
).search
_NULL: Final = b"\xaf"


def conflict_of(serialization: int, body: bytes, address: Address, longest: int) -> str:
    """Say what is wrong where the attachments name another service than ``address``; empty: they agree.

    ``longest``: bytes of the attachments; longer ones are not read. Total.
    """
    if address.parameters < 0:
        return UNREADABLE
    find = _line if serialization == FASTJSON else _value
    raw = find(body, address.size, address.parameters)
    if raw is None or len(raw) > longest:
        return UNREADABLE
    if not raw:
        return ""
    judge = _of_line if serialization == FASTJSON else _of_value
    if len(raw) <= MEMO_BYTES:
        return _recurring(judge is _of_line, raw, address.path, address.version)
    return judge(raw, address.path, address.version)


@lru_cache(maxsize=512)
def _recurring(is_line: bool, raw: bytes, path: str, version: str) -> str:
    return (_of_line if is_line else _of_value)(raw, path, version)


def _line(body: bytes, at: int, arguments: int) -> bytes | None:
    """Return the line behind the arguments; empty: there is none. None: what ends a line is uncertain."""
    if body.find(b"\r", at) >= 0:
        return None  # ends a line in Java; fastjson writes none
    for _ in range(arguments):
        at = body.find(b"\n", at) + 1
        if not at:
            return b""
    end = body.find(b"\n", at)
    return body[at:] if end < 0 else body[at:end]


def _value(body: bytes, at: int, arguments: int) -> bytes | None:
    """Return the value behind the arguments, likewise."""
    for _ in range(arguments):
        at += 4 + int.from_bytes(body[at : at + 4])
    if at >= len(body):
        return b"" if at == len(body) else None
    size = int.from_bytes(body[at : at + 4])
    raw = body[at + 4 : at + 4 + size]
    return raw if len(raw) == size > 0 else None


class _Pairs(tuple[tuple[str, object], ...]):
    """A JSON object as it is written: a key may occur twice."""

    __slots__ = ()


def _of_line(raw: bytes, path: str, version: str) -> str:
    try:
        found = json.loads(raw, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return UNREADABLE
    if found is None:
        return ""
    if not isinstance(found, _Pairs):
        return UNREADABLE
    for key, value in found:
        if key in TARGETS:
            agreed = value == path
        elif key == VERSION:
            said = "" if value is None else value
            agreed = isinstance(said, str) and same_version(said) in ("", same_version(version))
        else:
            continue
        if not agreed:
            return _other(key)
    return ""


def _of_value(raw: bytes, path: str, version: str) -> str:
    if _UNUSUAL(raw):
        return UNREADABLE
    for name in _NAMES:
        text = name.encode()
        values = (
            (_NULL, _string(""), _string("0.0.0"), _string(version))
            if name == VERSION
            else (_string(path),)
        )
        key = re.escape(bytes((_SHORT + len(text),)) + text)
        wanted = b"|".join(map(re.escape, values))
        # Length and name, however the length is written.
        named = len(
            re.findall(b"[%b%b]%b" % (re.escape(bytes((len(text),))), key[: -len(text)], text), raw)
        )
        agreed = re.findall(b"(?:\x7f%b%b|%b)(?:%b)" % (key, _SYMBOL, key, wanted), raw, re.DOTALL)
        if named != len(agreed):
            return _other(name)
    return ""


def _string(text: str) -> bytes:
    """Write a string as fastjson2 does."""
    raw = text.encode("utf-8", "surrogatepass")
    if len(raw) <= _SHORT_MOST and text.isascii():
        return bytes((_SHORT + len(raw),)) + raw
    size = len(raw)
    length = (
        bytes((size,))
        if size <= 0x2F
        else (0x3800 + size).to_bytes(2)
        if size < 0x800
        else b"\x48" + size.to_bytes(4)
    )
    return (b"\x79" if text.isascii() else b"\x7a") + length + raw


def _other(name: str) -> str:
    return f"the attachment {name} says another service than the head"
