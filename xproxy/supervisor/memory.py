"""What one program leaves to the next: sealed memory that has no name anywhere, and that nobody can change."""

from __future__ import annotations

import fcntl
import os
from typing import Final

MOST_BYTES: Final = 16 * 1024 * 1024
"""A thousand workers of the longest commands need a tenth of it."""
_SEALS: Final = (
    fcntl.F_ADD_SEALS,
    (fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE),
)


def put(data: bytes) -> int:
    """Return a descriptor of memory with this content. Raises OSError, ValueError for too much."""
    if len(data) > MOST_BYTES:
        raise ValueError(f"what is to be left has {len(data)} bytes, the limit is {MOST_BYTES}")
    descriptor = os.memfd_create("xproxy-supervisor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        fcntl.fcntl(descriptor, *_SEALS)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def get(descriptor: int) -> bytes:
    """Return the content. Raises OSError, ValueError for too much."""
    size = os.fstat(descriptor).st_size
    if size > MOST_BYTES:
        raise ValueError(f"what was left has {size} bytes, the limit is {MOST_BYTES}")
    found = bytearray()
    while len(found) < size:
        piece = os.pread(descriptor, size - len(found), len(found))
        if not piece:
            break
        found += piece
    return bytes(found)
