"""Paths in one spelling, so that a rule about ``/admin`` also holds for whatever an upstream would take for it.

What is done here and what not (RFC 3986 §6.2.2; options and order are Envoy's):

* needless escapes (``%61``) become the characters they stand for, once; ``%2561`` stays, as it stands for ``%61``;
* a backslash becomes a slash, as in browsers and some servers (WHATWG URL §4.4);
* dot segments are removed, and never lead above the root;
* repeated slashes mean something else by RFC 3986, and the same to many servers: merged for matching, and on the wire
  only if asked to;
* escaped slashes and backslashes (``%2F``, ``%5C``) are the listener's to decide.

The query is no part of it: it stays byte for byte.
"""

from __future__ import annotations

import re
from typing import Final

_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_MALFORMED: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_DOT_SEGMENT: Final = re.compile(r"/\.\.?(?=/|\Z)")
_SLASHES: Final = re.compile(r"//+")
_ESCAPED_SLASH: Final = re.compile(r"%(?:2[Ff]|5[Cc])")
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_HEX: Final = frozenset("0123456789ABCDEFabcdef")


def is_plain(target: str) -> bool:
    """Say whether nothing in a path, with or without its query, can want any of this. Cheap, for every request."""
    return not ("/." in target or "%" in target or "//" in target or "\\" in target)


def normalised_path(path: str) -> str:
    """Return a path without needless escapes, backslashes and dot segments. Total, idempotent; no query in it."""
    if "%" in path:
        path = _unescaped(path)
    if "\\" in path:
        path = path.replace("\\", "/")
    if "/." in path and _DOT_SEGMENT.search(path) is not None:
        path = _without_dots(path)
    return path


def merged(path: str) -> str:
    """Return a path with one slash for each run of them."""
    return _SLASHES.sub("/", path) if "//" in path else path


def has_escaped_slash(path: str) -> bool:
    """Say whether a slash or backslash is written as an escape in it."""
    return "%" in path and _ESCAPED_SLASH.search(path) is not None


def with_slashes(path: str) -> str:
    """Return a path with its escaped slashes and backslashes as slashes."""
    return _ESCAPED_SLASH.sub("/", path)


def in_capitals(path: str) -> str:
    """Return a path whose escapes are written with capitals, as RFC 3986 §6.2.2.1 has them: for comparing."""
    return _ESCAPE.sub(_capitals, path) if "%" in path else path


def _capitals(match: re.Match[str]) -> str:
    return match[0].upper()


def _unescaped(path: str) -> str:
    if _MALFORMED.search(path) is None:
        return _ESCAPE.sub(_decoded, path)
    # What is decoded may complete an escape that a stray percent sign began (``%%32e``): whoever decodes the path
    # again would find another one than we matched. Such an escape stays.
    parts: list[str] = []
    tail = ""
    position = 0
    for match in _ESCAPE.finditer(path):
        between = path[position : match.start()]
        tail = (tail + between)[-2:]
        char = _decoded(match)
        if len(char) == 1 and char in _HEX and (tail[-1:] == "%" or _begins(tail)):
            char = match[0]
        parts += (between, char)
        tail = (tail + char)[-2:]
        position = match.end()
    parts.append(path[position:])
    return "".join(parts)


def _begins(tail: str) -> bool:
    return len(tail) == 2 and tail[0] == "%" and tail[1] in _HEX


def _decoded(match: re.Match[str]) -> str:
    char = chr(int(match[1], 16))
    return char if char in _UNRESERVED else match[0]


def _without_dots(path: str) -> str:
    """Remove dot segments (RFC 3986 §5.2.4) from a path that begins with a slash."""
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments[1:]:
        if segment == "..":
            if kept:
                kept.pop()
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)
