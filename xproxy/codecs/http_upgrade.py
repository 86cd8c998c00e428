"""Upgrades in every version of HTTP (RFC 9110 §7.8, RFC 8441), and the handshake that one of them has (RFC 6455 §4).

HTTP/1.1 proves by key and accept value that both ends mean a WebSocket, HTTP/2 says so by ``:protocol``. Where one
becomes the other the codecs make what is missing and drop what means nothing; everything else passes as it is.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

from xproxy.codecs.http_fields import TOKEN
from xproxy.model.headers import Headers

WEBSOCKET: Final = "websocket"
KEY: Final = "sec-websocket-key"
ACCEPT: Final = "sec-websocket-accept"
VERSION: Final = "sec-websocket-version"
CURRENT_VERSION: Final = "13"
"""The one version there is (RFC 6455 §11.6)."""
HANDSHAKE: Final = frozenset({KEY, ACCEPT})
"""Fields of one HTTP/1.1 connection's handshake, which HTTP/2 does without."""
NEVER: Final = frozenset({"h2c", "h2", "http"})
"""Other versions of HTTP: an offer to change to one is served in the version it came in (RFC 9113 §3.1)."""

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY: Final = re.compile(r"[A-Za-z0-9+/]{21}[AQgw]==")  # 16 bytes in base64
_KEY_BYTES: Final = 16
LONGEST_NAME: Final = 64
"""Characters of the name of a protocol that is asked for."""


def asked(value: str, headers: Headers) -> tuple[str, str]:
    """Return the upgrade that an HTTP/1.1 request asks for, and the accept value that proves it; empty: none.

    ``value`` is its Upgrade field. What is not plainly one upgrade that could be granted is none: a server may pass
    over the wish (RFC 9110 §7.8), and then nobody behind it learns of it.
    """
    upgrade = granted(value)
    if not upgrade or upgrade in NEVER:
        return "", ""
    if upgrade != WEBSOCKET:
        return upgrade, ""
    key = key_of(headers)
    if key is None or headers.get_all(VERSION) != [CURRENT_VERSION]:
        return "", ""
    return upgrade, accept_for(key)


def granted(value: str) -> str:
    """Return the one protocol that an Upgrade field names, in lower case; empty if it names several or a version."""
    return (
        value.lower() if len(value) <= LONGEST_NAME and TOKEN.fullmatch(value) is not None else ""
    )


def key_of(headers: Headers) -> str | None:
    """Return the handshake's key; None if there is not exactly one, or if it is none (RFC 6455 §4.1)."""
    keys = headers.get_all(KEY)
    return keys[0] if len(keys) == 1 and _KEY.fullmatch(keys[0]) is not None else None


def made_key(seed: bytes) -> str:
    """Return a key for a handshake that came without one.

    A function of its request, as codecs know no chance. It is no secret: it keeps an answer from being taken for one
    to an upgrade by mistake (RFC 6455 §1.3), which the accept value made from it still does.
    """
    digest = hashlib.blake2b(seed, digest_size=_KEY_BYTES).digest()
    return base64.b64encode(digest).decode("ascii")


def accept_for(key: str) -> str:
    """Return the value that proves that ``key`` was understood (RFC 6455 §4.2.2)."""
    digest = hashlib.sha1(key.encode("ascii") + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode("ascii")


def without(headers: Headers, names: frozenset[str]) -> Headers:
    """Return the fields but those named (in lower case)."""
    return Headers([pair for pair in headers if pair[0].lower() not in names])
