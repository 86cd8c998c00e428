"""``grpc-message``: text in a header field, percent-encoded UTF-8 (grpc/doc/PROTOCOL-HTTP2.md, "Status-Message")."""

from __future__ import annotations

import re
from typing import Final

MESSAGE: Final = "grpc-message"

_SAFE: Final = frozenset(range(0x20, 0x7F)) - {ord("%")}
_CODES: Final = tuple(chr(byte) if byte in _SAFE else f"%{byte:02X}" for byte in range(256))
_ENCODED: Final = re.compile(rb"%([0-9A-Fa-f]{2})")


def encode_text(text: str) -> str:
    """Write a text down. A blank at an end is encoded too: a field value keeps none there (RFC 9110 §5.5)."""
    raw = text.encode("utf-8", "replace")
    encoded = "".join([_CODES[byte] for byte in raw])
    if encoded != encoded.strip(" "):
        inner = encoded.strip(" ")
        start = len(encoded) - len(encoded.lstrip(" "))
        encoded = "%20" * start + inner + "%20" * (len(encoded) - start - len(inner))
    return encoded


def decode_text(value: str) -> str:
    """Read a text; what is not rightly encoded stays as it is. Total."""
    raw = value.encode("utf-8", "surrogateescape")
    return _ENCODED.sub(lambda match: bytes((int(match[1], 16),)), raw).decode("utf-8", "replace")
