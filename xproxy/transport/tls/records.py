"""Records (RFC 8446 §5): their framing."""

from __future__ import annotations

from typing import Final

CHANGE_CIPHER_SPEC: Final = 20
ALERT: Final = 21
HANDSHAKE: Final = 22
APPLICATION_DATA: Final = 23

HEADER_BYTES: Final = 5
MAX_FRAGMENT_BYTES: Final = 16384
"""Plaintext in one record, at most."""
MAX_RECORD_BYTES: Final = MAX_FRAGMENT_BYTES + 2048
"""After the header: what TLS 1.2 allows; TLS 1.3 allows less, and whoever decrypts sees to it."""


def whole(data: bytes, start: int = 0) -> int:
    """Return where the last whole record of ``data`` ends.

    Bytes that cannot be a record count as one, up to the end: whoever decrypts refuses them at once, rather than
    that we wait for their rest.
    """
    size = len(data)
    while size - start >= HEADER_BYTES:
        kind = data[start]
        length = data[start + 3] << 8 | data[start + 4]
        if not CHANGE_CIPHER_SPEC <= kind <= APPLICATION_DATA or length > MAX_RECORD_BYTES:
            return size
        end = start + HEADER_BYTES + length
        if end > size:
            break
        start = end
    return start
