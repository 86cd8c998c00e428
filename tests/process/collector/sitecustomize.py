"""Loaded first by a proxy whose garbage is looked at: this folder is in PYTHONPATH, a file is named beside it.

The collector stays off. At each SIGRTMIN it runs once, and what it found is written to the file: objects that only a
collector can free, by type, first those that are in circles.
"""

from __future__ import annotations

import gc
import json
import os
import signal
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Final

FILE: Final = os.environ.get("XPROXY_TEST_GARBAGE", "")


def named(thing: object) -> str:
    """Name what a thing is, a frame by what it runs."""
    code = getattr(thing, "f_code", None)
    return f"frame of {code.co_qualname}" if isinstance(code, CodeType) else type(thing).__name__


def circles(found: list[object]) -> list[object]:
    """Return those that are in a circle, or between two: what leads nowhere and what nobody leads to is left out."""
    left = {id(thing): thing for thing in found}
    while True:
        leads = {
            key: {id(other) for other in gc.get_referents(thing)} & left.keys()
            for key, thing in left.items()
        }
        led_to = {other for others in leads.values() for other in others}
        kept = {key: left[key] for key, others in leads.items() if others and key in led_to}
        if len(kept) == len(left):
            return list(kept.values())
        left = kept


def look(_number: int, _frame: FrameType | None) -> None:
    """Collect, and write down what was found."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    found = list(gc.garbage)
    gc.garbage.clear()
    said = {
        "found": len(found),
        "thresholds": gc.get_threshold(),
        "circles": Counter(map(named, circles(found))).most_common(),
        "all": Counter(map(named, found)).most_common(),
    }
    found.clear()
    gc.collect()  # what was kept to be looked at
    new = Path(f"{FILE}.new")
    new.write_text(json.dumps(said))
    new.rename(FILE)


if FILE:
    gc.disable()
    signal.signal(signal.SIGRTMIN, look)
