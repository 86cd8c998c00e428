"""What an upstream speaks that does not speak what it was asked in: for an error that says how to mend it."""

from __future__ import annotations

import re
from typing import Final

HERE: Final = "its cluster"
"""Stands for the cluster in the remedies below: who knows its name puts that in."""

_KNOWN: Final = (
    (re.compile(rb"HTTP/1\.[0-9]"), "HTTP/1.1", f"set `codec: http1` on {HERE}"),
    # An empty or small SETTINGS frame on stream 0, which is what a server of HTTP/2 says first (RFC 9113 §3.4).
    (
        re.compile(rb"\x00..\x04[\x00\x01]\x00{4}", re.DOTALL),
        "HTTP/2",
        f"set `codec: http2` on {HERE}",
    ),
    (re.compile(rb"[\x15\x16]\x03[\x00-\x04]"), "TLS", f"set `tls` on {HERE}"),
)


def other_protocol(start: bytes, asked: str) -> str:
    """Return what is wrong and the remedy, if ``start`` of an answer plainly is another protocol; or an empty text.

    ``asked`` is what the request was written in, as people call it.
    """
    for pattern, spoken, remedy in _KNOWN:
        if spoken != asked and pattern.match(start) is not None:
            return f"the endpoint answered {spoken} to an {asked} request: {remedy}"
    return ""
