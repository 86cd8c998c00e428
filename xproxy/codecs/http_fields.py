"""Field names of every version of HTTP: what is the message's, this hop's, the framing's (RFC 9110 §7.6.1)."""

from __future__ import annotations

import re
from typing import Final

TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""RFC 9110 §5.6.2."""

# What to do with a field; PLAIN is 0 so that the hot loops need one test for all others.
PLAIN: Final = 0
INVALID: Final = 1
HOP: Final = 2
"""Ends at this hop: not in a message's headers, never sent from them."""
CONNECTION: Final = 3
HOST: Final = 4
LENGTH: Final = 5
TRANSFER: Final = 6
TE: Final = 7
EXPECT: Final = 8
TRAILER: Final = 9
UPGRADE: Final = 10

_KIND_BY_NAME: Final = {
    "connection": CONNECTION,
    "host": HOST,
    "content-length": LENGTH,
    "transfer-encoding": TRANSFER,
    "te": TE,
    "expect": EXPECT,
    "trailer": TRAILER,
    "keep-alive": HOP,
    "proxy-connection": HOP,
    "proxy-authenticate": HOP,
    "proxy-authorization": HOP,
    "proxy-authentication-info": HOP,
    "upgrade": UPGRADE,
    "http2-settings": HOP,
}

NOT_IN_TRAILERS: Final = frozenset(
    {
        # Framing and routing
        *(
            "content-length",
            "transfer-encoding",
            "host",
            "trailer",
            "te",
            "expect",
            "connection",
            "max-forwards",
        ),
        *(
            "keep-alive",
            "proxy-connection",
            "upgrade",
            "http2-settings",
            "location",
            "via",
            "forwarded",
        ),
        # Who asks
        *(
            "authorization",
            "proxy-authorization",
            "proxy-authenticate",
            "proxy-authentication-info",
        ),
        *("www-authenticate", "authentication-info", "cookie", "set-cookie"),
        # What the content is, and how to treat it
        *(
            "content-type",
            "content-encoding",
            "content-range",
            "content-language",
            "content-location",
        ),
        *("cache-control", "pragma", "age", "expires", "date", "vary", "retry-after", "range"),
        *("if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"),
    }
)
"""Fields with a meaning before the body only: a trailer must not bring them in afterwards (RFC 9110 §6.5.1)."""

_LONGEST_REMEMBERED: Final = 64
_REMEMBERED: Final = 1024


def kind_of(name: str) -> int:
    """Return what a field name as spelled means; INVALID if it is no token."""
    if TOKEN.fullmatch(name) is None:
        return INVALID
    return _KIND_BY_NAME.get(name.lower(), PLAIN)


class Kinds(dict[str, int]):
    """A bounded memory of ``kind_of``: ``kinds[name]`` costs one look-up for a name that was seen before."""

    def __missing__(self, name: str) -> int:
        kind = kind_of(name)
        if len(name) <= _LONGEST_REMEMBERED:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[name] = kind
        return kind


KINDS: Final = Kinds()
"""The shared memory: of a pure function, so nobody can tell that it is there."""
