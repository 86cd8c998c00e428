"""Snapshots on the wire: a codec's state as versioned msgpack, read back with every part checked.

One layout for all codecs: ``[codec name, version, field, …]``. What is read may come from another process, of another
version: nothing is believed, and everything wrong is a ``ValueError``.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgpack


def pack_state(codec: str, version: int, fields: Sequence[object]) -> bytes:
    """Write a codec's state down: None, bool, int (64 bits), str, bytes, list and dict of these."""
    packed: bytes = msgpack.packb([codec, version, *fields])
    return packed


def unpack_state(codec: str, version: int, types: Sequence[type], data: bytes) -> list[object]:
    """Read what ``pack_state`` wrote, as fields of exactly these types. Raises ValueError for anything else."""
    try:
        parts: object = msgpack.unpackb(data, strict_map_key=False)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as exc:
        raise ValueError(f"not a snapshot of {codec}") from exc
    if not isinstance(parts, list) or parts[:1] != [codec]:
        raise ValueError(f"not a snapshot of {codec}")
    if len(parts) < 2 or type(parts[1]) is not int or parts[1] != version:
        raise ValueError(f"not version {version} of a snapshot of {codec}")
    fields = parts[2:]
    if [type(field) for field in fields] != list(types):
        raise ValueError(f"a snapshot of {codec} has other fields")
    return fields
