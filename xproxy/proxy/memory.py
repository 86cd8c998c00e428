"""How much memory the process may have, and how what it frees goes back to the system."""

from __future__ import annotations

import ctypes
import functools
import logging
import os
from pathlib import Path
from typing import Final

from xproxy.model.limits import MIB

_logger = logging.getLogger(__name__)

SHARE_PERCENT: Final = 40
"""Of the memory that there may be, for messages that are held, where the configuration does not say it."""
_GROUPS: Final = Path("/sys/fs/cgroup")
_MMAP_THRESHOLD: Final = -3
_TRIM_THRESHOLD: Final = -1
"""mallopt(3), glibc."""
_KEPT: Final = 16 * MIB
"""Bytes free at the end of the heap that are kept: else each large read takes pages and gives them back."""


def memory_limit(groups: Path = _GROUPS, own: Path = Path("/proc/self/cgroup")) -> int:
    """Return how many bytes the process may have: those of its control group (v2 or v1), or of the machine."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if not kinds:
            found += _bounds(groups, path, "memory.max")
        elif "memory" in kinds.split(","):
            found += _bounds(groups / "memory", path, "memory.limit_in_bytes")
    return min(found)


def _bounds(root: Path, path: str, name: str) -> list[int]:
    # Every group above bounds it too; in a container its own is seen at the root.
    found = []
    group = root / path.strip("/")
    for place in (group, *group.parents):
        try:
            text = (place / name).read_text().strip()
        except OSError:
            continue
        if text.isdigit() and int(text) > 0:
            found.append(int(text))
        if place == root:
            break
    return found


def default_held_bytes() -> int:
    """Return the bound of what is held where the configuration names none."""
    return memory_limit() // 100 * SHARE_PERCENT


@functools.cache
def _malloc() -> ctypes.CDLL:
    # Made once: each is a circle of its own, which only a collector frees.
    return ctypes.CDLL(None)


def give_back() -> None:
    """Let the system have every page that is free on the heap (malloc_trim(3), glibc)."""
    try:
        _malloc().malloc_trim(0)
    except (OSError, AttributeError) as exc:
        _logger.debug("malloc cannot be told: %s", exc)


def give_back_freed_memory() -> None:
    """Let large buffers go back to the system as soon as they are freed (glibc).

    By itself malloc learns from the first large buffer to keep such ones on its heap, where one small object behind
    it holds it for good: the process would stay as large as it ever was.
    """
    try:
        malloc = _malloc()
        malloc.mallopt(_MMAP_THRESHOLD, MIB)
        malloc.mallopt(_TRIM_THRESHOLD, _KEPT)
    except (OSError, AttributeError) as exc:
        _logger.debug("malloc cannot be told: %s", exc)
