"""When Python's cyclic garbage collector looks at a process that does nothing but proxy.

Counts of references free all that requests, connections and clusters leave. What the collector is for are circles of
plugins. It goes through everything that lives, during which nothing else happens: with thousands of clusters for
hundreds of milliseconds. So what lives for long is frozen, where it is not looked at, and let out only when all of it
has been replaced, and more than once.
"""

from __future__ import annotations

import gc
from typing import Final

THRESHOLDS: Final = (25_000, 5, 4)
"""Objects made and not freed until the youngest are looked at, and how often that is until the older ones are.

A request makes some dozens of objects and no circles. The default of every 700 objects finds nothing 40 times a
second and costs 2 % of a busy proxy. What a plugin leaves must have its turn, or it stays for hours.
"""
FRESH_PERCENT: Final = 25
"""Of the clusters and filters that run, that may have begun or ended until what lives is frozen; it takes no time."""
REPLACED_PERCENT: Final = 400
"""The same until all that is frozen is looked at. All of them replaced by others are 200 percent."""
_FEW: Final = 100
"""Fewer are not worth it, of however few that run."""


class Collector:
    """Freezes what lives for long. One for a process; it does nothing until ``tune``."""

    __slots__ = ("_fresh", "_replaced", "_tuned")

    def __init__(self) -> None:
        self._tuned = False
        self._fresh = 0
        self._replaced = 0

    def tune(self) -> None:
        """Set how often the collector runs by itself, and freeze what is loaded by now."""
        gc.set_threshold(*THRESHOLDS)
        self._tuned = True
        self.settle()

    def settle(self) -> None:
        """Let go of all garbage there is, and freeze what lives. Takes some 100 ms for each million of objects."""
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._fresh = self._replaced = 0

    def replaced(self, count: int) -> None:
        """Take note that so many clusters and filters have begun or ended."""
        self._fresh += count
        self._replaced += count

    def look(self, running: int) -> None:
        """Freeze, or ``settle``, if enough has been replaced, of so many clusters and filters that run now."""
        if not self._tuned:
            return
        if self._replaced >= max(_FEW, running * REPLACED_PERCENT // 100):
            self.settle()
        elif self._fresh >= max(_FEW, running * FRESH_PERCENT // 100):
            gc.freeze()
            self._fresh = 0
