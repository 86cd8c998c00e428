"""Field names that HTTP/1.1 alone treats apart (RFC 9110 §7.6.1)."""

from __future__ import annotations

from typing import Final

NOT_REMOVABLE: Final = frozenset(
    {
        "host",
        "content-length",
        "transfer-encoding",
        "te",
        "trailer",
        "expect",
        "close",
        "keep-alive",
        "",
    }
)
"""Names in Connection that remove nothing: a peer may not take away framing or Host by naming them."""
