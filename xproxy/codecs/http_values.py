"""Values that mean the same in every version of HTTP: lengths and authorities (RFC 9110 §8.6, §7.2)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

MAX_LENGTH: Final = 2**63 - 1
"""Longest body or chunk anybody may declare, in bytes."""
_LENGTH_DIGITS: Final = 19
# uri-host [":" port] (RFC 3986 §3.2.2) without user information, and without the comma that joins two Host fields.
_AUTHORITY: Final = re.compile(
    r"(?:\[[0-9A-Za-z:.%_~\-]+\]|(?:[A-Za-z0-9\-._~!$&'()*+;=]|%[0-9A-Fa-f]{2})+)(?::[0-9]{0,5})?"
)


METHOD_CHARS: Final = 32
"""Longest method."""
# Methods have case (RFC 9110 §9.1), and all that there are are in capitals. A server that thinks otherwise would
# frame its answer to `head` or `connect` in another way than we do; so no version of HTTP takes them.
_METHOD: Final = re.compile(r"[A-Z][A-Z0-9!#$%&'*+\-.^_`|~]{0,31}")


def method_valid(method: str) -> bool:
    """Say whether ``method`` is a method: a token in capitals that begins with a letter, and not the preface's."""
    return _METHOD.fullmatch(method) is not None and method != "PRI"


def parse_length(value: str) -> int:
    """Return a Content-Length: digits only, int() would also take signs, blanks, underscores. Raises ValueError."""
    if not value.isascii() or not value.isdigit() or len(value) > _LENGTH_DIGITS:
        raise ValueError("Content-Length is not a number of at most 19 digits")
    length = int(value)
    if length > MAX_LENGTH:
        raise ValueError(f"Content-Length is above {MAX_LENGTH}")
    return length


@lru_cache(maxsize=1024)
def _small_authority_valid(text: str) -> bool:
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        return False
    port = text.rpartition(":")[2] if not text.endswith("]") and ":" in text else ""
    return not port or int(port) <= 65535


def authority_valid(text: str) -> bool:
    """Say whether ``text`` is ``uri-host [":" port]``. At most 255 + 6 characters: no longer name can be resolved."""
    return len(text) <= 261 and _small_authority_valid(text)
