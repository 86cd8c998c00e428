"""A share of the requests, by chance: one draw of a million for each request, whatever routes ask for it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, final

from xproxy.config.routing import MILLION, FractionConfig
from xproxy.model.message import RequestHead
from xproxy.stream.exchange import ConnectionFacts

DRAWN: Final = "fraction"
"""What a condition looks at that goes by it."""


@final
class Draw:
    """The value of the request that is being routed. One for a table, which draws before it looks at its routes."""

    __slots__ = ("_random", "value")

    def __init__(self, random_below: Callable[[int], int] = random.randrange) -> None:
        """``random_below``: gives 0 … n - 1 for n, each as often."""
        self._random = random_below
        self.value = 0

    def anew(self) -> None:
        """Draw for another request."""
        self.value = self._random(MILLION)

    def find(self, _head: RequestHead, _facts: ConnectionFacts) -> str | None:
        """See ``match.Find``."""
        return str(self.value)


def fraction_test(fraction: FractionConfig) -> tuple[str, Callable[[str | None], bool]]:
    """Return what is wanted, and the test of a value that was drawn."""
    below = round(fraction.percent * MILLION / 100)
    return f"below {below} of a million", lambda found: int(found or MILLION) < below
