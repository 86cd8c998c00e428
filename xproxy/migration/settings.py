"""Settings as a digest: whether two processes, perhaps of two versions, have a part configured alike.

What a field has by default is not told, so that a version with one more field agrees with the one before it.
"""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import PurePath
from typing import Final

import attrs
import msgpack

DIGEST_BYTES: Final = 16
MAX_DEPTH: Final = 64
"""Values within values; what is deeper has no digest."""


def settings_digest(settings: object) -> bytes:
    """Return ``DIGEST_BYTES`` that are the same in every process for equal settings.

    Attrs classes count by their name and the fields that are not at their default; tuples and lists; mappings and
    sets whatever their order; enums, paths, patterns and plain values by what they say. Raises ValueError for others.
    """
    packed: bytes = msgpack.packb(_plain(settings, MAX_DEPTH))
    return hashlib.sha256(packed).digest()[:DIGEST_BYTES]


def _plain(value: object, depth: int) -> object:
    if depth == 0:
        raise ValueError(f"settings are deeper than {MAX_DEPTH}")
    depth -= 1
    match value:
        case None | bool() | str() | bytes() | float():
            return value
        case enum.Enum():
            return ["enum", value.name]
        case int():
            return value if -(2**63) <= value < 2**64 else ["int", str(value)]
        case PurePath():
            return str(value)
        case re.Pattern():
            return ["pattern", _plain(value.pattern, depth), value.flags]
        case Mapping():
            pairs = [[_plain(key, depth), _plain(item, depth)] for key, item in value.items()]
            return ["map", *sorted(pairs, key=_packed)]
        case AbstractSet():
            return ["set", *sorted([_plain(item, depth) for item in value], key=_packed)]
        case list() | tuple():
            return ["list", *[_plain(item, depth) for item in value]]
        case _ if attrs.has(type(value)):
            return [type(value).__qualname__, *_fields(value, depth)]
        case _:
            raise ValueError(f"{type(value).__qualname__} is nothing that settings can be")


def _fields(value: object, depth: int) -> list[object]:
    found: list[object] = []
    for field in attrs.fields(type(value)):  # type: ignore[arg-type]  # an attrs class, says the caller
        if not field.init or not field.eq:
            continue
        item = getattr(value, field.name)
        default = field.default
        if isinstance(default, attrs.Factory) and not default.takes_self:  # type: ignore[arg-type]  # a class, really
            default = default.factory()
        if item != default:
            found.append([field.name, _plain(item, depth)])
    return found


def _packed(value: object) -> bytes:
    packed: bytes = msgpack.packb(value)
    return packed
