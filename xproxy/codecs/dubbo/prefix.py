"""What a Dubbo request's body begins with: for whom it is (Dubbo: DubboCodec.encodeRequestData).

Five hessian2 strings: Dubbo's version, path, service version, method, descriptors of the parameters. A dubbox
peer puts an int before the descriptors. In a generic call (``$invoke``) the first argument is the method that
is meant. A client sends the same few prefixes again and again: what one means is worked out once
(``lru_cache``: a pure function of its bytes, bounded).
"""

from __future__ import annotations

import functools
import re
from functools import lru_cache
from typing import Final

import attrs

from xproxy.codecs.hessian2 import (
    HessianError,
    is_text,
    past_text,
    read_int,
    read_text,
    write_text,
)

MEMO_BYTES: Final = 2048
"""Longer ones are read each time: 512 remembered ones must stay within a MiB."""

VERSION: Final = "2.0.2"
"""Of the protocol, as requests begun here say it."""
BYTES: Final = "[B"
"""The descriptor of a byte array."""

_GENERIC: Final = ("$invoke", "$invokeAsync")
_GENERIC_TYPES: Final = "Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;"
_PARAMETER: Final = re.compile(r"\[*(?:[ZBCDFIJS]|L[^;]+;)")
_NULL: Final = 0x4E
_MOST_PARAMETERS: Final = 255
"""Of a method (JVMS §4.3.3)."""
_FIRST_WITH_ATTACHMENTS: Final = (2, 0, 2)
_LAST_WITH_ATTACHMENTS: Final = (2, 0, 99)


@attrs.frozen
class Prefix:
    """A prefix as it was read, or is to be written."""

    block: bytes
    """All of it."""
    release: str
    """Dubbo's version, as the sender calls it."""
    path: str
    """The service."""
    version: str | None
    """Of the service; ``""`` and ``0.0.0`` mean none. None is null."""
    method: str
    types: str
    mark: bytes
    """The int of a dubbox peer, as sent; empty otherwise."""
    parameters: int
    """How many values follow, the attachments aside; -1: the descriptors do not tell."""

    generic: bool = attrs.field(init=False)
    """The first argument names the method."""
    attachable: bool = attrs.field(init=False)
    """Its sender understands an answer with attachments (Dubbo: Version.isSupportResponseAttachment)."""

    @functools.cached_property
    def agreeing(self) -> tuple[tuple[bytes, bytes], ...]:
        """Names of attachments that name a service, and the whole entries that say the same; as usually written."""
        said = {"path": self.path, "interface": self.path, "version": self.version or ""}
        return tuple((write_text(name), write_text(name) + write_text(said[name])) for name in said)

    @generic.default
    def _is_generic(self) -> bool:
        return self.method in _GENERIC and self.types == _GENERIC_TYPES

    @attachable.default
    def _is_attachable(self) -> bool:
        numbers = tuple(int(part) for part in re.findall(r"\d{1,6}", self.release)[:3])
        return _FIRST_WITH_ATTACHMENTS <= numbers <= _LAST_WITH_ATTACHMENTS


def count_parameters(types: str) -> int:
    """Return how many parameters a method with these descriptors has; -1 if they are none, or too many for Java."""
    count = at = 0
    while at < len(types):
        found = _PARAMETER.match(types, at)
        if found is None or count == _MOST_PARAMETERS:
            return -1
        at = found.end()
        count += 1
    return count


def past_prefix(body: bytes) -> int:
    """Return where the prefix of a body ends. Raises HessianError."""
    try:
        at = past_text(body, past_text(body, 0))
        at = at + 1 if body[at] == _NULL else past_text(body, at)
        at = past_text(body, at)
        if not is_text(body[at]):
            at = read_int(body, at)[1]
        return past_text(body, at)
    except IndexError:
        raise HessianError("ends within the prefix") from None


def _read(block: bytes) -> Prefix | None:
    try:
        if past_prefix(block) != len(block):
            return None
    except HessianError:
        return None
    release, at = read_text(block, 0)
    path, at = read_text(block, at)
    version: str | None = None
    if block[at] == _NULL:
        at += 1
    else:
        version, at = read_text(block, at)
    method, at = read_text(block, at)
    mark = b""
    if not is_text(block[at]):
        end = read_int(block, at)[1]
        mark, at = block[at:end], end
    types, _ = read_text(block, at)
    return Prefix(block, release, path, version, method, types, mark, count_parameters(types))


read_recurring = lru_cache(maxsize=512)(_read)
"""As ``read_prefix``, for blocks of ``MEMO_BYTES`` at most. Equal ones mostly give the same object."""


def read_prefix(block: bytes) -> Prefix | None:
    """Read a prefix; None if ``block`` is not one and nothing else."""
    return read_recurring(block) if len(block) <= MEMO_BYTES else _read(block)


def make_prefix(
    path: str,
    method: str,
    types: str,
    *,
    version: str | None = "",
    release: str = VERSION,
    mark: bytes = b"",
) -> Prefix:
    """Make a prefix to send."""
    block = b"".join(
        (
            write_text(release),
            write_text(path),
            b"N" if version is None else write_text(version),
            write_text(method),
            mark,
            write_text(types),
        )
    )
    return Prefix(block, release, path, version, method, types, mark, count_parameters(types))
