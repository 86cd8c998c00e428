"""What can be fuzzed: each target states its invariant in its first line."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import attrs

Mutator = Callable[[bytes, random.Random], bytes]


@attrs.frozen
class Seed:
    """A first input."""

    name: str
    data: bytes


def _plainly(data: bytes, chance: random.Random, mutate: Mutator) -> bytes:
    return mutate(data, chance)


@attrs.frozen(kw_only=True)
class Target:
    """One thing to fuzz."""

    name: str
    check: Callable[[bytes], None]
    """Raises, whatever it may be, if the invariant does not hold for this input."""
    seeds: Callable[[], Sequence[Seed]]
    """Inputs to begin with, beside those in ``fuzz/corpus``."""
    mutate: Callable[[bytes, random.Random, Mutator], bytes] = _plainly
    """How the built-in loop changes an input, given a general mutator."""
