"""What is called inside a hessian2 ``SofaRequest``: a server goes by it, whatever the header says.

Reads the class definition, steps over the fields before ``methodName`` and ``targetServiceUniqueName``, and stops
there: bounded, and never raising. It is in hessian 2, or in the draft of it which SOFA's own hessian is made of. What
is not of the plain form that clients write (a definition, then the object; strings, nulls, booleans and lists of
strings in its fields) is not understood: then nobody knows what a server would make of it.
"""

from __future__ import annotations

from typing import Final

import attrs

CLASS: Final = b"com.alipay.sofa.rpc.core.request.SofaRequest"

_METHOD: Final = "methodName"
_SERVICE: Final = "targetServiceUniqueName"
_MOST_ITEMS: Final = 256
_MAX_FIELDS: Final = 32
_MAX_TEXT_BYTES: Final = 1024
_FARTHEST: Final = 16 * 1024
"""Bytes that are stepped over, some milliseconds: clients write three short fields before the last of the two."""
_NULL: Final = 0x4E
_ATOMS: Final = frozenset(b"NTF")
_DEFINITION: Final = 0x43  # 'C'
_OBJECT: Final = 0x4F  # 'O'
# SOFA's own hessian is of a draft of version 2: there 'O' defines, with the length of the class's name as an int.
_DRAFT_DEFINITION: Final = 0x4F  # 'O'
_DRAFT_OBJECT: Final = 0x6F  # 'o'
_LAST_CHUNK: Final = 0x53  # 'S'


OBJECTS: Final = frozenset((b"C", b"O", b"M"))
"""How what may be an object begins: with a definition, in either form, or as a map with a type."""


@attrs.frozen
class Called:
    """What a request's content says is called."""

    service: str | None
    """None: there is an object, and this cannot be told."""
    method: str
    """Empty if it cannot be told."""
    end: int = 0
    """How many bytes of the content say it; 0 where something cannot be told."""


NOTHING: Final = Called("", "")
"""Of content that is no object: no server calls anything by it."""


def called_in(content: bytes) -> Called:
    """Return what is called. Total."""
    if content[:1] not in OBJECTS:
        return NOTHING
    method = ""
    try:
        at, names = _definition(content)
        service: str | None = "" if _SERVICE not in names else None
        wanted = {_METHOD, _SERVICE} & set(names)
        for name in names:
            if not wanted:
                break
            if name in wanted:
                text, at = ("", at + 1) if content[at] == _NULL else _string(content, at)
                wanted.discard(name)
                if name == _SERVICE:
                    service = text
                else:
                    method = text if text.isprintable() else ""
            else:
                at = _past(content, at)
    except (IndexError, ValueError):
        return Called(None, method)
    return Called(service, method, at)


def method_of(content: bytes) -> str:
    """Return the method name, or empty if it cannot be told."""
    return called_in(content).method


# Definitions, by how they begin, with the names of their fields: every request of a client has the same.
# Shared by all connections; emptied when full.
_known: Final[dict[bytes, tuple[bytes, tuple[str, ...]]]] = {}
_MOST_KNOWN: Final = 64
_LONGEST_KNOWN: Final = 1024
_BEGINNING: Final = 64


def _definition(content: bytes) -> tuple[int, tuple[str, ...]]:
    """Return where the fields' values begin, and their names."""
    known = _known.get(content[:_BEGINNING])
    if known is not None and content.startswith(known[0]):
        at, names = len(known[0]), known[1]
    else:
        at, names = _past_definition(content)
        if at <= _LONGEST_KNOWN:
            if len(_known) >= _MOST_KNOWN:
                _known.clear()
            _known[content[:_BEGINNING]] = content[:at], names
    draft = content[0] == _DRAFT_DEFINITION
    if content[at] == (_DRAFT_OBJECT if draft else _OBJECT):
        index, at = _small_int(content, at + 1)
    elif not draft and 0x60 <= content[at] <= 0x6F:
        index, at = content[at] - 0x60, at + 1
    else:
        raise ValueError("no object")
    if index:
        raise ValueError("an object of another definition")
    return at, names


def _past_definition(content: bytes) -> tuple[int, tuple[str, ...]]:
    """Return where the definition ends, and the names of the fields."""
    if content[0] == _DEFINITION:
        _, at = _string(content, 1)
    elif content[0] == _DRAFT_DEFINITION:
        length, at = _small_int(content, 1)
        at += length
    else:
        raise ValueError("no definition")
    count, at = _small_int(content, at)
    if not 0 <= count <= _MAX_FIELDS:
        raise ValueError("too many fields")
    names: list[str] = []
    for _ in range(count):
        name, at = _string(content, at)
        names.append(name)
    if len(set(names)) < len(names) or _METHOD not in names:
        raise ValueError("no fields of a request")
    return at, tuple(names)


def _past(content: bytes, at: int) -> int:
    """Return where a value ends: an atom, a string, or a list of them. Raises ValueError for anything else."""
    lead = content[at]
    if lead in _ATOMS:
        return at + 1
    draft = content[0] == _DRAFT_DEFINITION
    if draft and lead == 0x56:  # V, a type, a length, values, z
        at += 1
        if content[at] == 0x74:  # t
            at += 3 + (content[at + 1] << 8 | content[at + 2])
        if content[at] == 0x6E:  # n
            count, at = content[at + 1], at + 2
        elif content[at] == 0x6C:  # l
            count, at = int.from_bytes(content[at + 1 : at + 5]), at + 5
        else:
            raise ValueError("a list without a length")
        at = _past_items(content, at, count)
        if content[at] != 0x7A:  # z
            raise ValueError("a list without an end")
        return at + 1
    if draft and lead == 0x76:  # v, a type's number, a length, values
        _, at = _small_int(content, at + 1)
        count, at = _small_int(content, at)
        return _past_items(content, at, count)
    if not draft and 0x70 <= lead <= 0x7F:
        at += 1
        if lead <= 0x77:
            at = _past_type(content, at)
        return _past_items(content, at, lead & 7)
    if not draft and lead in (0x56, 0x58):  # V, X
        at = _past_type(content, at + 1) if lead == 0x56 else at + 1
        count, at = _small_int(content, at)
        return _past_items(content, at, count)
    return _string(content, at)[1]


def _past_type(content: bytes, at: int) -> int:
    """Step over a type: its name, or its number."""
    return _small_int(content, at)[1] if content[at] >= 0x80 else _string(content, at)[1]


def _past_items(content: bytes, at: int, count: int) -> int:
    if not 0 <= count <= _MOST_ITEMS:
        raise ValueError("a list that is too long")
    for _ in range(count):
        at = at + 1 if content[at] in _ATOMS else _string(content, at)[1]
    return at


def _string(content: bytes, at: int) -> tuple[str, int]:
    """Read a string of one chunk. Raises ValueError for anything else, IndexError at the end of the bytes."""
    if at > _FARTHEST:
        raise ValueError("too far")
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
