"""The time in answers that were made here (RFC 9110 §5.6.7)."""

from __future__ import annotations

import functools
import time
from email.utils import formatdate


def http_date() -> str:
    """Return this moment, e.g. ``Sun, 06 Nov 1994 08:49:37 GMT``."""
    return _second(int(time.time()))


@functools.lru_cache(maxsize=4)
def _second(second: int) -> str:
    # Made once for all answers of a second.
    return formatdate(second, usegmt=True)
