"""How fast a takeover goes, and how long it waits for what cannot move."""

from __future__ import annotations

from typing import Final

import attrs

from xproxy.migration.giving import CANARIES, WINDOW
from xproxy.proxy.runtime import Runtime


@attrs.frozen(kw_only=True)
class Pace:
    """How a takeover goes."""

    patience: float = 900.0
    """Seconds for which what cannot move may go on here (``takeover.patience``); 0: for ever."""
    canary: float = 1.0
    """Seconds for which the new process must serve the first connections before it gets the others."""
    rest: float = 3.0
    """A batch is followed by so many times its processor time of rest, as long as there are clients here: at most a
    quarter of a core goes into giving."""
    canaries: int = CANARIES
    window: int = WINDOW


DEFAULT_PACE: Final = Pace()


def pace_of(runtime: Runtime) -> Pace:
    """Return how a takeover from ``runtime`` goes (``takeover`` in its configuration)."""
    if runtime.snapshot is None:
        return DEFAULT_PACE
    config = runtime.snapshot.config.takeover
    return Pace(patience=config.patience, canary=config.canary)
