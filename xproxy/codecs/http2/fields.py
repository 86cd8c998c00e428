"""Field names of HTTP/2: pseudo-fields, what it forbids, and what ends at this hop (RFC 9113 §8.2, §8.3)."""

from __future__ import annotations

import re
from typing import Final

from xproxy.codecs.http_fields import NOT_IN_TRAILERS

__all__ = ["NOT_IN_TRAILERS"]

# What to do with a field that is received; PLAIN is 0 so that the hot loop needs one test for all others.
PLAIN: Final = 0
INVALID: Final = 1
"""No token, or not in lower case (RFC 9113 §8.2.1)."""
PSEUDO: Final = 2
UNKNOWN_PSEUDO: Final = 3
FORBIDDEN: Final = 4
"""Speaks of a connection: HTTP/2 has it in its frames, and a message with it is malformed (RFC 9113 §8.2.2)."""
HOP: Final = 5
"""Ends at this hop: not in a message's headers."""
HOST: Final = 6
LENGTH: Final = 7
TE: Final = 8
COOKIE: Final = 9

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+")

_KIND_BY_NAME: Final = {
    ":method": PSEUDO,
    ":scheme": PSEUDO,
    ":authority": PSEUDO,
    ":path": PSEUDO,
    ":status": PSEUDO,
    ":protocol": PSEUDO,
    "connection": FORBIDDEN,
    "keep-alive": FORBIDDEN,
    "proxy-connection": FORBIDDEN,
    "transfer-encoding": FORBIDDEN,
    "upgrade": FORBIDDEN,
    "http2-settings": HOP,
    "proxy-authenticate": HOP,
    "proxy-authorization": HOP,
    "proxy-authentication-info": HOP,
    "host": HOST,
    "content-length": LENGTH,
    "te": TE,
    "cookie": COOKIE,
}

_LONGEST_REMEMBERED: Final = 64
_REMEMBERED: Final = 1024


def kind_of(name: str) -> int:
    """Return what a field name as received means."""
    kind = _KIND_BY_NAME.get(name)
    if kind is not None:
        return kind
    if name.startswith(":"):
        return UNKNOWN_PSEUDO
    return PLAIN if _TOKEN.fullmatch(name) is not None else INVALID


class Kinds(dict[str, int]):
    """A bounded memory of ``kind_of``."""

    def __missing__(self, name: str) -> int:
        kind = kind_of(name)
        if len(name) <= _LONGEST_REMEMBERED:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[name] = kind
        return kind


KINDS: Final = Kinds()
"""The shared memory: of a pure function, so nobody can tell that it is there."""
