"""The method name inside a hessian2 ``SofaRequest``, for clients whose header names only the service.

Reads the class definition, steps over the fields before ``methodName``, and stops there: bounded, and never raising.
What is not of that plain form (a definition, then the object; strings, nulls and booleans before the name) has no
method as far as routing is concerned. It is in hessian 2, or in the draft of it which SOFA's own hessian is made of.
"""

from __future__ import annotations

from typing import Final

CLASS: Final = b"com.alipay.sofa.rpc.core.request.SofaRequest"

_FIELD: Final = "methodName"
_MAX_FIELDS: Final = 32
_MAX_TEXT_BYTES: Final = 1024
_NULL: Final = 0x4E
_ATOMS: Final = frozenset(b"NTF")
_DEFINITION: Final = 0x43  # 'C'
_OBJECT: Final = 0x4F  # 'O'
# SOFA's own hessian is of a draft of version 2: there 'O' defines, with the length of the class's name as an int.
_DRAFT_DEFINITION: Final = 0x4F  # 'O'
_DRAFT_OBJECT: Final = 0x6F  # 'o'
_LAST_CHUNK: Final = 0x53  # 'S'


def method_of(content: bytes) -> str:
    """Return the method name, or empty if it cannot be told."""
    try:
        return _method(content)
    except (IndexError, ValueError):
        return ""


# Definitions, by how they begin, with the number of fields before the method: every request of a client has the same.
# Shared by all connections; emptied when full.
_known: Final[dict[bytes, tuple[bytes, int]]] = {}
_MOST_KNOWN: Final = 64
_LONGEST_KNOWN: Final = 1024
_BEGINNING: Final = 64


def _method(content: bytes) -> str:
    known = _known.get(content[:_BEGINNING])
    if known is not None and content.startswith(known[0]):
        at, wanted = len(known[0]), known[1]
    else:
        at, wanted = _past_definition(content)
        if at < 0:
            return ""
        if at <= _LONGEST_KNOWN:
            if len(_known) >= _MOST_KNOWN:
                _known.clear()
            _known[content[:_BEGINNING]] = content[:at], wanted
    draft = content[0] == _DRAFT_DEFINITION
    if content[at] == (_DRAFT_OBJECT if draft else _OBJECT):
        _, at = _small_int(content, at + 1)
    elif not draft and 0x60 <= content[at] <= 0x6F:
        at += 1
    else:
        return ""
    for _ in range(wanted):
        if content[at] in _ATOMS:
            at += 1
        else:
            _, at = _string(content, at)
    method, _ = _string(content, at)
    return method if method.isprintable() else ""


def _past_definition(content: bytes) -> tuple[int, int]:
    """Return where the definition ends, -1 if there is none, and how many fields come before the method."""
    if content[0] == _DEFINITION:
        _, at = _string(content, 1)
    elif content[0] == _DRAFT_DEFINITION:
        length, at = _small_int(content, 1)
        at += length
    else:
        return -1, 0
    count, at = _small_int(content, at)
    if not 0 <= count <= _MAX_FIELDS:
        return -1, 0
    names: list[str] = []
    for _ in range(count):
        name, at = _string(content, at)
        names.append(name)
    return at, names.index(_FIELD)


def _string(content: bytes, at: int) -> tuple[str, int]:
    """Read a string of one chunk. Raises ValueError for anything else, IndexError at the end of the bytes."""
    lead = content[at]
    if lead <= 0x1F:
        units, at = lead, at + 1
    elif 0x30 <= lead <= 0x33:
        units, at = (lead - 0x30) << 8 | content[at + 1], at + 2
    elif lead == _LAST_CHUNK:
        units, at = content[at + 1] << 8 | content[at + 2], at + 3
    else:
        raise ValueError("not a short string")
    end = at
    while units > 0:
        byte = content[end]
        # The length counts UTF-16 units; a four-byte sequence is two of them.
        end += 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
        units -= 1 if byte < 0xF0 else 2
        if end - at > _MAX_TEXT_BYTES:
            raise ValueError("too long")
    return content[at:end].decode("utf-8"), end


def _small_int(content: bytes, at: int) -> tuple[int, int]:
    lead = content[at]
    if 0x80 <= lead <= 0xBF:
        return lead - 0x90, at + 1
    if 0xC0 <= lead <= 0xCF:
        return (lead - 0xC8 << 8) + content[at + 1], at + 2
    raise ValueError("not a small int")
