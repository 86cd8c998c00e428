"""No core dump, and no debugger of the same user, while the keys of connections are on their way."""

from __future__ import annotations

import ctypes
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_logger = logging.getLogger(__name__)

_PR_GET_DUMPABLE: Final = 3
_PR_SET_DUMPABLE: Final = 4


@contextmanager
def undumpable() -> Iterator[None]:
    """Let nobody look into this process's memory (prctl(2), PR_SET_DUMPABLE); afterwards it is as before."""
    before = _prctl(_PR_GET_DUMPABLE, 0)
    if before == 1 and _prctl(_PR_SET_DUMPABLE, 0) == 0:
        try:
            yield
        finally:
            _prctl(_PR_SET_DUMPABLE, before)
    else:
        yield


def _prctl(option: int, value: int) -> int:
    if sys.platform != "linux":
        return -1
    try:
        result: int = ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
    except (OSError, AttributeError) as exc:  # another libc, a sandbox
        _logger.debug("no prctl: %s", exc)
        return -1
    return result
