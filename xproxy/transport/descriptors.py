"""File descriptors: how many there may be, how many are kept for upstreams and the admin, and who makes room.

The kernel gives the lowest number that is free. So the number of a connection just accepted says how many are in use,
and nobody need count them.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
from collections.abc import Callable
from typing import Final

import trio

_logger = logging.getLogger(__name__)

OUT_OF_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})
_SHARE: Final = 4
"""By default one descriptor in so many is kept."""
_UNBOUNDED: Final = 1 << 20
"""Where the system has no limit."""
_LEAST: Final = 32
"""What clients can always have: a reserve above that is cut down to leave so many."""
_SAID_AGAIN: Final = 10.0
"""Seconds between two lines about it."""


def raise_limit() -> int:
    """Let the process have as many descriptors as it ever may (the hard limit); return how many those are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError) as exc:  # a sandbox may forbid it
            _logger.warning("the limit of file descriptors stays at %d: %s", soft, exc)
    return limit()


def limit() -> int:
    """Return how many descriptors the process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _UNBOUNDED if soft == resource.RLIM_INFINITY else soft


def in_use() -> int:
    """Return how many descriptors the process has open; 0 where the system does not say it."""
    try:
        return max(len(os.listdir("/proc/self/fd")) - 1, 0)  # but for the one that looks
    except OSError:
        return 0


class Descriptors:
    """The process's. ``make_room`` is set by whoever has idle connections to close."""

    __slots__ = ("_said", "kept_from", "limit", "make_room")

    def __init__(self, most: int | None = None) -> None:
        self.limit = limit() if most is None else most
        self.make_room: Callable[[], bool] = _no_room
        """Close some connections that nobody misses; False: there is none. Never blocks."""
        self.kept_from = 0
        """The first number that is not for clients."""
        self._said = float("-inf")
        self.keep(0)

    def keep(self, reserved: int) -> None:
        """Keep ``reserved`` descriptors for what is not a client's connection; 0: a share of all."""
        kept = reserved or self.limit // _SHARE
        self.kept_from = max(self.limit - kept, min(_LEAST, self.limit))

    def take(self, number: int) -> bool:
        """Say whether a client may have the descriptor of this number, after making room if there is any."""
        if number < self.kept_from:
            return True
        made = self.make_room()
        now = trio.current_time()
        if now - self._said >= _SAID_AGAIN:
            self._said = now
            _logger.warning(
                "short of file descriptors: %d of %d are in use, %d of them are kept for upstreams; %s",
                number + 1,
                self.limit,
                self.limit - self.kept_from,
                "idle connections are closed" if made else "new connections are closed at once",
            )
        return made


def _no_room() -> bool:
    return False
