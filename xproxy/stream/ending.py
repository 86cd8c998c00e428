"""How things end that end exactly once: a body, and an attempt at an endpoint."""

from __future__ import annotations

from typing import Final, TypeAlias

import attrs

from xproxy.model.errors import StreamError
from xproxy.model.frames import Trailers


@attrs.frozen
class Complete:
    """A body came to its end."""

    trailers: Trailers | None = None
    """Its last piece, where it has any."""


@attrs.frozen
class Broke:
    """It broke off: what came so far is not the whole."""

    error: StreamError
    bug: Exception | None = None
    """What was raised that is no StreamError, mostly by a wrapper further in; ``error`` then stands for it."""


@attrs.frozen
class GivenUp:
    """Nobody wants the rest."""


BodyEnding: TypeAlias = Complete | Broke | GivenUp
"""How a body ended."""

COMPLETE: Final = Complete()
"""Without trailers."""
GIVEN_UP: Final = GivenUp()
