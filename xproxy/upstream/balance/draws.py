"""Draws at random that avoid something."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from random import Random
from typing import Final

from xproxy.upstream.endpoint import Endpoint

_DRAWS: Final = 8
"""Draws before all others are looked at: so many in a row hit what is avoided where that is most of all there is."""


def draw_another(
    draw: Callable[[], Endpoint],
    endpoints: Sequence[Endpoint],
    avoid: Container[object],
    random: Random,
) -> Endpoint:
    """Draw until it is none of ``avoid``; if there is no other, return what was drawn. Weights are kept."""
    endpoint = draw()
    for _ in range(_DRAWS):
        if endpoint not in avoid:
            return endpoint
        endpoint = draw()
    others = [one for one in endpoints if one not in avoid]
    if not others:
        return endpoint
    return random.choices(others, [one.weight for one in others])[0]
