"""Faults on purpose, for tests of real processes: at a named step of a takeover it is killed, stopped or fails.

``XPROXY_FAULT_POINT=step:what`` is read once, when this is imported. ``what`` is ``kill`` (SIGKILL), ``stop``
(SIGSTOP), ``epipe`` (what is sent there finds nobody) or ``ctrunc`` (what is received there has lost its
descriptors).
"""

from __future__ import annotations

import os
import signal
from typing import Final

STEP, _, WHAT = os.environ.get("XPROXY_FAULT_POINT", "").partition(":")
KINDS: Final = ("kill", "stop", "epipe", "ctrunc")
STEPS: Final = (
    "give.begin",
    "give.described",
    "give.paused",
    "give.frozen",
    "give.offered",
    "give.answered",
    "give.withdraw",
    "give.done",
    "take.begin",
    "take.ready",
    "take.accepting",
    "take.received",
    "take.restored",
    "take.taken",
    "take.begun",
)
"""Where there may be one, in the order in which a takeover passes them."""
_SIGNALS: Final = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


def fault(step: str) -> str:
    """Pass a step: die or stand still there, if that is wanted; else return what the caller must let fail."""
    if step != STEP:
        return ""
    number = _SIGNALS.get(WHAT)
    if number is not None:
        os.kill(os.getpid(), number)
        return ""
    return WHAT
