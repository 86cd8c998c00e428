"""Snapshots on the wire: versioned msgpack, ``[codec name, version, …]``, of which nothing is believed.

What is read may come from another process, of another version: everything wrong is a ``ValueError``. What follows the
version is a map of named fields, declared as a ``StateSchema``; before there was such a thing it was the fields
themselves, in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgpack

MAX_STATE_BYTES: Final = 32 * 1024 * 1024
"""A state above it is not read: a connection that holds so much stays with its process, and ends with it."""


def pack_state(codec: str, version: int, fields: Sequence[object]) -> bytes:
    """Write a codec's state down: None, bool, int (64 bits), str, bytes, list and dict of these."""
    packed: bytes = msgpack.packb([codec, version, *fields])
    return packed


def open_state(codec: str, data: bytes) -> tuple[int, list[object]]:
    """Return the version of a codec's state, and what follows it. Raises ValueError if it is not one."""
    if len(data) > MAX_STATE_BYTES:
        raise ValueError(
            f"a snapshot of {codec} is {len(data)} bytes, limit {MAX_STATE_BYTES} (MAX_STATE_BYTES)"
        )
    try:
        parts: object = msgpack.unpackb(data, strict_map_key=False)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as exc:
        raise ValueError(f"not a snapshot of {codec}") from exc
    if not isinstance(parts, list) or parts[:1] != [codec]:
        raise ValueError(f"not a snapshot of {codec}")
    if len(parts) < 2 or type(parts[1]) is not int:
        raise ValueError(f"a snapshot of {codec} without a version")
    return parts[1], parts[2:]


def check_types(codec: str, types: Sequence[type], fields: list[object]) -> list[object]:
    """Return the fields if they are of exactly these types, in this order. Raises ValueError."""
    if [type(field) for field in fields] != list(types):
        raise ValueError(f"a snapshot of {codec} has other fields")
    return fields


def unpack_state(codec: str, version: int, types: Sequence[type], data: bytes) -> list[object]:
    """Read what ``pack_state`` wrote, as fields of exactly these types. Raises ValueError for anything else."""
    found, fields = open_state(codec, data)
    if found != version:
        raise ValueError(f"not version {version} of a snapshot of {codec}")
    return check_types(codec, types, fields)
