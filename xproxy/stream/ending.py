"""How things end that end exactly once: a body, and an attempt at an endpoint.

A body is ``Complete``, or ``Broke``, or was ``GivenUp``. An attempt was ``Answered`` whole, or ``Broke``, or was
``GivenUp``: its endpoint did what it should, or failed, or nobody can say. Or it has ``Departed``, and another
process will know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

import attrs

from xproxy.model.errors import StreamError
from xproxy.model.frames import Trailers
from xproxy.model.status import Status


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

    why: StreamError | None = None
    """Of an attempt: what made it end that says nothing of the endpoint. None: its client went away, or its time or
    that of this one try was over."""


@attrs.frozen
class Answered:
    """An attempt has its whole answer."""

    status: Status
    """How the call ended: what trailers said, where they said it, else what the head did."""


@attrs.frozen
class Departed:
    """An attempt goes on in another process, where it is told how it ended."""


BodyEnding: TypeAlias = Complete | Broke | GivenUp
"""How a body ended."""

COMPLETE: Final = Complete()
"""Without trailers."""
GIVEN_UP: Final = GivenUp()

DEPARTED: Final = Departed()

AttemptEnding: TypeAlias = Answered | Broke | GivenUp | Departed
"""How an attempt ended."""

ANSWERED: Final[Mapping[Status, Answered]] = {status: Answered(status) for status in Status}
