"""``grpc-timeout``: how long a caller will wait (grpc/doc/PROTOCOL-HTTP2.md, "Timeout")."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from math import ceil
from typing import Final

FIELD: Final = "grpc-timeout"

_FORM: Final = re.compile(r"([0-9]{1,8})([HMSmun])")
_SECONDS: Final[Mapping[str, float]] = {
    "H": 3600.0,
    "M": 60.0,
    "S": 1.0,
    "m": 1e-3,
    "u": 1e-6,
    "n": 1e-9,
}
_MOST: Final = 99_999_999


def parse_timeout(text: str) -> float | None:
    """Return the seconds, or None for what is no timeout: then nobody's deadline is known, as if nothing was said."""
    match = _FORM.fullmatch(text)
    return int(match[1]) * _SECONDS[match[2]] if match is not None else None


def says(pairs: Iterable[tuple[str, str]], deadline: float) -> bool:
    """Tell whether header fields say this very deadline already."""
    return any(name.lower() == FIELD and parse_timeout(text) == deadline for name, text in pairs)


def format_timeout(seconds: float) -> str:
    """Write seconds down, rounded up, in the finest unit that holds them. What is over already is the shortest time.

    Never finer than a microsecond: whoever gets it cannot be quicker.
    """
    for unit in ("u", "m", "S", "M"):
        # A millionth less, so that what was read and written again does not grow by a rounding error.
        count = max(1, ceil(seconds / _SECONDS[unit] - 1e-6))
        if count <= _MOST:
            return f"{count}{unit}"
    return f"{min(ceil(seconds / _SECONDS['H']), _MOST)}H"
