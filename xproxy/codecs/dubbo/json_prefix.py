"""What requests in fastjson and fastjson2 begin with: as in hessian2, for whom they are.

The same five strings (``prefix.py``). In fastjson each is a line of JSON. In fastjson2, which Dubbo prefers since
version 3.2, each is JSONB with its length before it in four bytes (Dubbo: FastJson2ObjectOutput; fastjson2: JSONB).
Of the attachments behind them only what names a service is read (``json_targets.py``), and of arguments nothing.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Final

import attrs

from xproxy.codecs.dubbo.prefix import MEMO_BYTES, count_parameters

FASTJSON: Final = 6
FASTJSON2: Final = 23
"""Serialization ids."""

_STRINGS: Final = 5
_NULL: Final = 0xAF
_SHORT: Final = 0x49
"""An ASCII string of up to 47 characters: this plus its length."""
_SHORT_LAST: Final = 0x78
_ASCII: Final = 0x79
_UTF8: Final = 0x7A
"""Longer strings, and others: then the length as an int."""


@attrs.frozen
class Address:
    """For whom a request is."""

    path: str
    version: str
    method: str
    size: int = attrs.field(default=0, eq=False)
    """Bytes that it was read from."""
    parameters: int = attrs.field(default=-1, eq=False)
    """How many values follow, the attachments aside; -1: the descriptors do not tell."""


def read_address(serialization: int, body: bytes, longest: int = MEMO_BYTES) -> Address | None:
    """Return for whom a request is, as its first ``longest`` bytes say; None if that cannot be told. Total."""
    if serialization == FASTJSON2:
        at = 0
        for _ in range(_STRINGS):
            at += 4 + int.from_bytes(body[at : at + 4])
    elif serialization == FASTJSON:
        at = 0
        for _ in range(_STRINGS):
            at = body.find(b"\n", at, longest) + 1
            if not at:
                return None
    else:
        return None
    if at > min(longest, len(body)):
        return None
    return (_recurring if at <= MEMO_BYTES else _read)(serialization, body[:at])


def _read(serialization: int, block: bytes) -> Address | None:
    try:
        texts = _lines(block) if serialization == FASTJSON else _strings(block)
    except (ValueError, IndexError):
        return None
    _, path, version, method, types = texts
    if not path or not method:
        return None
    return Address(path, version, method, len(block), count_parameters(types))


_recurring: Final = lru_cache(maxsize=512)(_read)


def _lines(block: bytes) -> list[str]:
    texts: list[str] = []
    for line in block.splitlines():
        if line == b"null":
            texts.append("")
        elif line.startswith(
            b'"'
        ):  # before json sees it: what is nested deep makes it raise RecursionError
            texts.append(str(json.loads(line)))
        else:
            raise ValueError("no string")
    if len(texts) != _STRINGS:
        raise ValueError("no five strings")
    return texts


def _strings(block: bytes) -> list[str]:
    texts: list[str] = []
    at = 0
    while at < len(block):
        size = int.from_bytes(block[at : at + 4])
        texts.append(_string(block[at + 4 : at + 4 + size]))
        at += 4 + size
    return texts


def _string(value: bytes) -> str:
    """Read a string in JSONB, or null. Raises ValueError, IndexError."""
    lead = value[0]
    if lead == _NULL and len(value) == 1:
        return ""
    if _SHORT <= lead <= _SHORT_LAST:
        length, at = lead - _SHORT, 1
    elif lead in (_ASCII, _UTF8):
        length, at = _length(value)
    else:
        raise ValueError("no string")
    if at + length != len(value):
        raise ValueError("another length")
    return value[at:].decode("utf-8" if lead == _UTF8 else "ascii")


def _length(value: bytes) -> tuple[int, int]:
    lead = value[1]
    if lead <= 0x2F:
        return lead, 2
    if 0x38 <= lead <= 0x3F:
        return (lead - 0x38) << 8 | value[2], 3
    raise ValueError("too long")
