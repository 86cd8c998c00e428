"""The attachments of a Dubbo message: a hessian2 map behind everything else, and thus behind the arguments.

To find them one must walk through the arguments, which costs the more the more there are. So they are read when
somebody asks for a header, and not before; ``Attachments`` is that promise. Text, whole numbers, truth values
and null show as headers. Anything else in the map is kept as it is. A map is only written anew when headers
were changed, and then each entry that was not changed as the bytes it came in.

Attachments ``path`` and ``interface`` that repeat the path of the prefix are, like an authority, the codec's:
they follow ``RequestHead.service``. If they say something else they are headers like others.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Final

import attrs

from xproxy.codecs.dubbo.arguments import Walk, passing, past
from xproxy.codecs.hessian2 import HessianError, past_type, read_scalar, read_text, write_text
from xproxy.codecs.slices import Work, at_once
from xproxy.model.errors import LocalProtocolError
from xproxy.model.headers import Headers, LazyHeaders
from xproxy.model.message import Fields

TARGETS: Final = frozenset({"path", "interface"})
VERSION: Final = "version"
TIMEOUT: Final = "timeout"

LONG: Final = 2048
"""Bytes of arguments that may take a while to walk through, small values as they can be."""
_END: Final = 0x5A  # 'Z'

Entry = tuple[str, str | None, bytes]
"""Key, text if it has one, and the bytes of both."""


@attrs.frozen
class Map:
    """The attachments as they were read."""

    raw: bytes
    """All of it, to the end of the body."""
    opening: bytes = b"H"
    entries: tuple[Entry, ...] = ()
    """Of a key that occurs twice the last, as in all peers: they fill a map."""
    closing: bytes = b"Z"
    """The end mark and, as nobody forbids it, what comes after it."""
    rigid: bool = False
    """There are references to earlier values, by number: it can be passed on as it is, and not be changed."""

    @functools.cached_property
    def keys(self) -> frozenset[str]:
        """All there are."""
        return frozenset(key for key, _, _ in self.entries)


_NO_MAP: Final = Map(b"")
_NULL_MAP: Final = Map(b"N")


def read_map(body: bytes, at: int, walk: Walk, most: int) -> Work[Map]:
    """Read the map that begins at ``at`` and ends the body; there may be none. Raises HessianError in it.

    ``walk`` was used for the values before it; ``most`` is how many attachments there may be.
    """
    if at == len(body):
        return _NO_MAP
    walk.has_references = False
    try:
        return (yield from _read_map(body, at, walk, most))
    except IndexError:
        raise HessianError("ends within the attachments") from None


def _read_map(body: bytes, at: int, walk: Walk, most: int) -> Work[Map]:
    begin = at
    if body[at] == 0x4D:  # 'M', with a type
        at = past_type(body, at + 1)
    elif body[at] == 0x48:  # 'H'
        at += 1
    elif body[at:] == _NULL_MAP.raw:
        return _NULL_MAP
    else:
        raise HessianError("the attachments are no map")
    opening = body[begin:at]
    entries: dict[str, Entry] = {}
    rigid = False
    while body[at] != _END:
        if len(entries) == most:
            raise HessianError(f"more than {most} attachments")
        start = at
        key, at = read_text(body, at)
        text, end = read_scalar(body, at)
        if text is None:
            end = yield from passing(body, at, 1, walk)
        elif end > len(body):
            raise HessianError("ends within an attachment")
        earlier = entries.pop(key, None)
        if earlier is not None and earlier[1] is None:
            rigid = True  # types may be numbered from the one that no longer counts
        entries[key] = (key, text, body[start:end])
        at = end
    rigid = rigid or walk.has_references
    return Map(body[begin:], opening, tuple(entries.values()), body[at:], rigid)


class Demand:
    """Whether attachments behind long arguments are asked for, as by a route or a log."""

    arose = False


DEMAND: Final = Demand()
"""Where there is one, they are looked for before somebody asks, so that others can have their turn meanwhile."""


class Attachments(LazyHeaders):
    """The headers of a Dubbo message, read on the first look at them.

    What cannot be read shows as no headers at all, and cannot be changed.
    """

    __slots__ = (
        "_at",
        "_body",
        "_map",
        "_max_bytes",
        "_max_headers",
        "_path",
        "_values",
        "_version",
    )

    def __init__(
        self,
        body: bytes,
        at: int,
        values: int,
        max_headers: int,
        max_bytes: int,
        path: str | None = None,
        version: str | None = None,
    ) -> None:
        """Promise the map that follows ``values`` values which begin at ``at``; ``values`` < 0: nobody knows.

        ``path`` and ``version`` are those of the prefix. The version shows as a header if no attachment says one.
        """
        super().__init__()
        self._body: bytes | None = body
        self._at = at
        self._values = values
        self._max_headers = max_headers
        self._max_bytes = max_bytes
        self._path = path
        self._version = version
        self._map: Map | None = None

    def find(self) -> tuple[tuple[str, str], ...]:
        """See LazyHeaders."""
        body = self._body
        if body is not None and len(body) - self._at > LONG:
            DEMAND.arose = True
        return at_once(self._finding())

    def reading(self) -> Work[None]:
        """Return the work of finding them before somebody asks."""
        if self._body is not None:
            self.put((yield from self._finding()))

    def _finding(self) -> Work[tuple[tuple[str, str], ...]]:
        body = self._body
        assert body is not None
        self._body = None  # whoever remembers a head must not keep its message with it
        walk = Walk()
        try:
            if self._values < 0:
                raise HessianError("nobody knows how many arguments there are")
            at = yield from passing(body, self._at, self._values, walk)
            if len(body) - at > self._max_bytes:
                raise HessianError("attachments above the limit of a head")
            found = yield from read_map(body, at, walk, self._max_headers)
        except HessianError:
            return ()
        self._map = found
        pairs = [
            (key, text)
            for key, text, _ in found.entries
            if text is not None and not (text == self._path and key in TARGETS)
        ]
        if self._version and not any(key == VERSION for key, _, _ in found.entries):
            pairs.append((VERSION, self._version))
        return tuple(pairs)

    def conflict(self) -> str:
        """Say what is wrong where the attachments name another service than the prefix; empty: they agree.

        A provider follows the attachments (Dubbo: DecodeableRpcInvocation puts them over the prefix), a route the
        prefix. What cannot be read might say anything, so it does not agree.
        """
        if self._body is not None:
            len(self)
        found = self._map
        if found is None:
            return "the attachments, which may name another service, cannot be read"
        for key, text, _ in found.entries:
            if key in TARGETS:
                agreed = text == self._path
            elif key == VERSION:
                # Of two that are said; where only one is, it is what routes see, and what a provider follows.
                said = {same_version(text), same_version(self._version)} - {""}
                agreed = text is not None and len(said) < 2
            else:
                continue
            if not agreed:
                return f"the attachment {key} says another service than the head"
        return ""

    @property
    def map(self) -> Map:
        """What was read. Raises LocalProtocolError where that was not possible."""
        if self._body is not None:
            len(self)
        if self._map is None:
            raise LocalProtocolError(
                "the attachments cannot be read: they are passed on, not changed"
            )
        return self._map

    def locate(self, body: bytes, at: int, values: int) -> int:
        """Return where the map begins in ``body``, after ``values`` values from ``at`` on.

        Raises LocalProtocolError, as the body may be another than it was read from.
        """
        raw = self.map.raw
        if body.endswith(raw):
            return len(body) - len(raw)
        try:
            return past(body, at, values, Walk())
        except HessianError as exc:
            raise LocalProtocolError("the body that was put in place is no hessian2") from exc


def same_version(text: str | None) -> str:
    """Return a service's version; both ways to say that it has none are one."""
    return "" if text is None or text == "0.0.0" else text


def change_map(old: Map, headers: Headers, path: str | None, new_path: str | None) -> bytes:
    """Write a map that shows as ``headers``; targets that named ``path`` name ``new_path``.

    Raises LocalProtocolError for a map that cannot be changed.
    """
    if old.rigid:
        raise LocalProtocolError("the attachments refer to other values: passed on, not changed")
    # A header of a target's name would be a second, different target to the peer.
    taken = {key for key, text, _ in old.entries if text == path and key in TARGETS}
    known: dict[tuple[str, str], bytes] = {}
    names = {name for name, _ in headers}
    parts = [old.opening]
    for key, text, raw in old.entries:
        if text is None:
            if key in names:
                raise LocalProtocolError("an attachment that is no text cannot be replaced by one")
            parts.append(raw)
        elif key in taken and text == path and new_path is not None:
            parts.append(raw if new_path == path else write_pair(key, new_path))
        else:
            known[key, text] = raw
    parts += [
        known.get(pair) or write_pair(*pair)
        for pair in _joined(headers.pairs, len(names))
        if pair[0] not in taken
    ]
    if len(parts) == 1 and not old.entries:
        return old.raw  # nothing to say, as before
    parts.append(old.closing)
    return b"".join(parts)


def add_to_map(old: Map, added: Fields) -> bytes:
    """Write a map with more entries; empty if they must be weighed against those that are there (``change_map``)."""
    if old.rigid or old.closing != b"Z":
        return b""
    keys = old.keys
    if len({name for name, _ in added}) < len(added):
        return b""
    if any(name in keys or name in TARGETS or name == VERSION for name, _ in added):
        return b""
    return b"".join((old.raw[:-1] or b"H", *(write_pair(*pair) for pair in added), b"Z"))


def write_map(pairs: Sequence[tuple[str, str]]) -> bytes:
    """Write attachments."""
    names = {name for name, _ in pairs}
    return b"".join((b"H", *(write_pair(*pair) for pair in _joined(pairs, len(names))), b"Z"))


def _joined(pairs: Sequence[tuple[str, str]], names: int) -> Sequence[tuple[str, str]]:
    """Make one of fields of the same name, of which there are ``names``: a map has no two."""
    if len(pairs) == names:
        return pairs
    joined: dict[str, str] = {}
    for name, text in pairs:
        joined[name] = f"{joined[name]}, {text}" if name in joined else text
    return tuple(joined.items())


def write_pair(key: str, text: str) -> bytes:
    """Write an entry."""
    return write_text(key) + write_text(text)
