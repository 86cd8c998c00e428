"""The header block of a Bolt message: ``int32 length, key, int32 length, value`` back to back, and what it names.

The keys that name the target are, like an authority, the codec's: they become ``RequestHead.service`` and ``method``
and are not among the headers. A key that occurs twice counts as its last value, as in both reference peers (they fill
a map), so that what is routed here is what is called there.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import attrs

from xproxy.codecs.message_wire import Malformed
from xproxy.model.errors import LocalProtocolError
from xproxy.model.headers import NO_HEADERS, Headers

SERVICE: Final = "service"
TARGET: Final = "sofa_head_target_service"
METHOD: Final = "sofa_head_method_name"
TARGET_KEYS: Final = (SERVICE, TARGET, METHOD)

MEMO_BYTES: Final = 2048
"""Longer blocks are decoded each time: 512 remembered ones must stay within a few MiB."""


@attrs.frozen
class Fields:
    """A header block as it was read."""

    service: str
    method: str
    headers: Headers
    """The other pairs, in order."""
    keys: tuple[str, ...]
    """The target keys that were there, in order."""
    nulls: frozenset[str] = frozenset()
    """Keys whose value was null, which ``headers`` shows as empty."""
    malformed: bool = False
    """The block does not end where it says: it can be passed on as it is, and not be changed."""
    conflict: bool = False
    """It names two services: which one a server goes by hangs on the codec of the content."""


NO_FIELDS: Final = Fields("", "", NO_HEADERS, ())
"""An empty block, without a target."""

_MALFORMED: Final = Fields("", "", NO_HEADERS, (), malformed=True)


def _length(block: bytes, at: int) -> int:
    return int.from_bytes(block[at : at + 4], signed=True)


def _pairs(block: bytes, max_headers: int) -> list[tuple[str, str | None]] | None:
    """Split a block; None if it is malformed. Raises Malformed for more than ``max_headers`` pairs."""
    pairs: list[tuple[str, str | None]] = []
    at, size = 0, len(block)
    while at < size:
        if len(pairs) == max_headers:
            raise Malformed(f"more than {max_headers} header pairs")
        texts: list[str | None] = []
        for _ in range(2):
            if size - at < 4:
                return None
            count = _length(block, at)
            at += 4
            if count == -1:
                texts.append(None)
                continue
            if not 0 <= count <= size - at:
                return None
            texts.append(block[at : at + count].decode("utf-8", "surrogateescape"))
            at += count
        key, value = texts
        if key is None:
            return None
        pairs.append((key, value))
    return pairs


def _read(block: bytes, max_headers: int, keys: tuple[str, ...]) -> Fields:
    pairs = _pairs(block, max_headers)
    if pairs is None:
        return _MALFORMED
    named = {key: value for key, value in pairs if key in keys and value}
    service = named.get(SERVICE) or named.get(TARGET) or ""
    method = named.get(METHOD) or ""
    taken = {key for key, value in named.items() if value == (method if key == METHOD else service)}
    return Fields(
        service,
        method,
        Headers((k, v or "") for k, v in pairs if not (k in taken and v == named[k])),
        tuple(key for key in named if key in taken),
        frozenset(key for key, value in pairs if value is None),
        conflict=len({named[key] for key in (SERVICE, TARGET) if key in named}) > 1,
    )


_remembered = lru_cache(maxsize=512)(_read)


def read_fields(block: bytes, max_headers: int, keys: tuple[str, ...] = TARGET_KEYS) -> Fields:
    """Read a header block; ``keys`` are those that name a target: none in a response.

    Equal blocks give the same object, most of the time. Raises Malformed for more than ``max_headers`` pairs.
    """
    read = _remembered if len(block) <= MEMO_BYTES else _read
    return read(block, max_headers, keys)


def write_pairs(pairs: Iterable[tuple[str, str | None]]) -> bytes:
    """Write a header block; None is the null value. Raises LocalProtocolError for text that is no UTF-8."""
    parts: list[bytes] = []
    try:
        for pair in pairs:
            for text in pair:
                if text is None:
                    parts.append(b"\xff\xff\xff\xff")
                else:
                    raw = text.encode("utf-8", "surrogateescape")
                    parts += (len(raw).to_bytes(4), raw)
    except UnicodeEncodeError as exc:
        raise LocalProtocolError("a header cannot be written as UTF-8") from exc
    return b"".join(parts)


def write_fields(service: str, method: str, headers: Headers, like: Fields | None) -> bytes:
    """Write the block of a changed or a new head: target keys first, then the headers.

    ``like`` is the block the head came from: its choice of target keys, and its nulls, are kept.
    """
    if like is not None and like.malformed:
        raise LocalProtocolError("the header block is malformed: it can be passed on, not changed")
    keys = like.keys if like is not None else TARGET_KEYS
    if service and not (SERVICE in keys or TARGET in keys):
        keys = (SERVICE, *keys)
    if method and METHOD not in keys:
        keys = (*keys, METHOD)
    nulls = like.nulls if like is not None else frozenset()
    values = {key: method if key == METHOD else service for key in keys}
    # A header of a target key's name would be a second, different target to the peer.
    rest = ((k, None if k in nulls and not v else v) for k, v in headers if k not in values)
    return write_pairs([*((key, value) for key, value in values.items() if value), *rest])
