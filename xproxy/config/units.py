"""Durations and sizes as people write them: ``250ms``, ``64KiB``."""

from __future__ import annotations

import re
from typing import Final

DURATION_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
"""Seconds in each unit."""
SIZE_UNITS: Final = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
"""Bytes in each unit."""
DURATION_PATTERN: Final = r"^([0-9]{1,9}(\.[0-9]{1,6})?(ms|s|m|h)|0)$"
"""As a regular expression that JSON Schema knows too."""
SIZE_PATTERN: Final = r"^([0-9]{1,12}(B|KiB|MiB|GiB)|0)$"

_NUMBER_AND_UNIT: Final = re.compile(r"([0-9.]+)\s*([A-Za-z]*)")


def parse_duration(text: str) -> float:
    """Return seconds. Raises ValueError that says how to write it."""
    if re.match(DURATION_PATTERN, text) and not text.endswith("\n"):
        if text == "0":
            return 0.0
        unit = text.lstrip("0123456789.")
        return float(text[: -len(unit)]) * DURATION_UNITS[unit]
    raise ValueError("expected a duration such as 250ms, 3s, 5m, 1h or 0")


def parse_size(text: str) -> int:
    """Return bytes. Raises ValueError that says how to write it."""
    if re.match(SIZE_PATTERN, text) and not text.endswith("\n"):
        if text == "0":
            return 0
        unit = text.lstrip("0123456789")
        return int(text[: -len(unit)]) * SIZE_UNITS[unit]
    raise ValueError("expected a size such as 512B, 64KiB, 1MiB or 0")


def duration_suggestion(text: str) -> str:
    """Return how ``text`` was probably meant as a duration, or an empty string."""
    guesses = {"": "s", "sec": "s", "secs": "s", "seconds": "s", "min": "m", "mins": "m"}
    guesses |= {"minutes": "m", "hours": "h", "hour": "h", "msec": "ms", "millis": "ms"}
    return _guess(text, guesses, DURATION_PATTERN)


def size_suggestion(text: str) -> str:
    """Return how ``text`` was probably meant as a size, or an empty string."""
    guesses = {"": "B", "b": "B", "bytes": "B", "k": "KiB", "kb": "KiB", "kib": "KiB"}
    guesses |= {"m": "MiB", "mb": "MiB", "mib": "MiB", "g": "GiB", "gb": "GiB", "gib": "GiB"}
    return _guess(text, guesses, SIZE_PATTERN)


def _guess(text: str, guesses: dict[str, str], pattern: str) -> str:
    found = _NUMBER_AND_UNIT.fullmatch(text[:32])
    if found is None:
        return ""
    number, unit = found.groups()
    fixed = number + guesses.get(unit.lower(), unit.lower())
    return fixed if re.match(pattern, fixed) else ""


def format_duration(seconds: float) -> str:
    """Write seconds in the largest unit that gives a whole number."""
    if seconds == 0:
        return "0"
    for unit in ("h", "m", "s"):
        count = seconds / DURATION_UNITS[unit]
        if count >= 1 and count == int(count):
            return f"{int(count)}{unit}"
    milliseconds = seconds * 1000
    if abs(milliseconds - round(milliseconds)) < 1e-6:
        return f"{round(milliseconds)}ms"
    return f"{seconds:.6f}".rstrip("0") + "s"


def format_size(size: int) -> str:
    """Write bytes in the largest unit that gives a whole number."""
    if size == 0:
        return "0"
    for unit in ("GiB", "MiB", "KiB"):
        if size % SIZE_UNITS[unit] == 0:
            return f"{size // SIZE_UNITS[unit]}{unit}"
    return f"{size}B"
