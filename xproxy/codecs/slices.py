"""Work that may take long, done in slices: a generator that pauses now and then, and returns what came of it."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeAlias, TypeVar

T = TypeVar("T")

Work: TypeAlias = Generator[None, None, T]
"""Each slice of it takes a millisecond at most."""


def at_once(work: Work[T]) -> T:
    """Do all of it now: for what is known to be short."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: T = done.value
            return result
