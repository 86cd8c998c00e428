"""States between processes in memory that nobody can change any more: a sealed memfd, given by its descriptor."""

from __future__ import annotations

import fcntl
import os
from typing import Final

_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def sealed(state: bytes) -> int:
    """Return a memfd that holds ``state``, and that nobody can change; the caller's to close. Raises OSError."""
    number = os.memfd_create("xproxy-state", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(state)
        while view:
            view = view[os.write(number, view) :]
        fcntl.fcntl(number, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(number)
        raise
    return number


def unsealed(number: int, size: int) -> bytes:
    """Return what a memfd holds; ``size`` is for the caller to bound.

    Raises ValueError where it could change, or is of another size.
    """
    try:
        seals = fcntl.fcntl(number, fcntl.F_GET_SEALS)
    except OSError as exc:
        raise ValueError("a state that is in no memfd") from exc
    if seals & _SEALS != _SEALS:
        raise ValueError("a state that its sender could still change")
    if os.fstat(number).st_size != size:
        raise ValueError("a state of another size than was said")
    pieces: list[bytes] = []
    at = 0
    while at < size:
        piece = os.pread(number, size - at, at)
        if not piece:
            raise ValueError("a state that ends early")
        pieces.append(piece)
        at += len(piece)
    return b"".join(pieces)
