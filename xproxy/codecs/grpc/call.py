"""Which requests are calls: content types and paths (grpc/doc/PROTOCOL-HTTP2.md, PROTOCOL-WEB.md)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from xproxy.codecs.grpc.timeout import FIELD as TIMEOUT
from xproxy.codecs.grpc.timeout import parse_timeout
from xproxy.model.message import Rpc

NATIVE: Final = "grpc"
"""The dialect of gRPC itself: the outcome is in trailers."""
WEB: Final = "grpc-web"
"""The dialect of browsers: the outcome is the last piece of the body."""

_TYPE: Final = re.compile(
    r"application/grpc(?P<web>-web(?P<text>-text)?)?(?P<format>\+[^;\s]+)?\s*(?:;.*)?",
    re.IGNORECASE,
)


def content_type_of(pairs: Iterable[tuple[str, str]]) -> str:
    """Return the content type among header fields, or an empty text."""
    for name, value in pairs:
        if len(name) == 12 and name.lower() == "content-type":
            return value
    return ""


def dialect_of(content_type: str) -> str:
    """Return the dialect that a content type means, or an empty text."""
    if content_type[:16].lower() != "application/grpc":
        return ""
    match = _TYPE.fullmatch(content_type)
    if match is None:
        return ""
    return NATIVE if match["web"] is None else WEB


def dialect_of_fields(pairs: Iterable[tuple[str, str]]) -> str:
    """Return the dialect of a message with these fields, or an empty text."""
    return dialect_of(content_type_of(pairs))


def call_in(pairs: Sequence[tuple[str, str]], path: str) -> tuple[Rpc | None, float | None]:
    """Return what a POST request calls, and for how many seconds its caller will wait; ``NO_CALL`` if it is no call.

    The path is split at its last ``/``.
    """
    dialect = dialect_of_fields(pairs)
    if not dialect:
        return NO_CALL
    deadline = None
    for name, value in pairs:
        if name.lower() == TIMEOUT:
            deadline = parse_timeout(value)
    return Rpc(dialect, "", "").at(path), deadline


NO_CALL: Final[tuple[Rpc | None, float | None]] = (None, None)


def is_text(content_type: str) -> bool:
    """Tell whether the body is base64 (``application/grpc-web-text``)."""
    match = _TYPE.fullmatch(content_type)
    return match is not None and match["text"] is not None


def content_type(content_type: str, kind: str) -> str:
    """Return ``application/<kind>`` with the message format (``+proto``) of another content type of the family."""
    match = _TYPE.fullmatch(content_type)
    return f"application/{kind}{(match['format'] or '') if match is not None else ''}"
