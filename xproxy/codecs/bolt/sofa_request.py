"""The method name inside a hessian2 ``SofaRequest``, for clients whose header names only the service.

Reads the class definition, steps over the fields before ``methodName``, and stops there: bounded, and never raising.
What is not of that plain form (``C`` definition, then the object; strings, nulls and booleans before the name) has no
method as far as routing is concerned.
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


def method_of(content: bytes) -> str:
    """Return the method name, or empty if it cannot be told."""
    try:
        return _method(content)
    except (IndexError, ValueError):
        return ""


def _method(content: bytes) -> str:
    if content[0] != _DEFINITION:
        return ""
    _, at = _string(content, 1)
    count, at = _small_int(content, at)
    if not 0 <= count <= _MAX_FIELDS:
        return ""
    names: list[str] = []
    for _ in range(count):
        name, at = _string(content, at)
        names.append(name)
    wanted = names.index(_FIELD)
    if content[at] == _OBJECT:
        _, at = _small_int(content, at + 1)
    elif 0x60 <= content[at] <= 0x6F:
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


def _string(content: bytes, at: int) -> tuple[str, int]:
    """Read a string of one chunk. Raises ValueError for anything else, IndexError at the end of the bytes."""
    lead = content[at]
    if lead <= 0x1F:
        units, at = lead, at + 1
    elif 0x30 <= lead <= 0x33:
        units, at = (lead - 0x30) << 8 | content[at + 1], at + 2
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
