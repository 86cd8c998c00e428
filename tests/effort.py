"""What work costs, beside other work of the same run: never against the clock, which other programs move.

The processor time of one thread, without Python's collector. What a busy machine adds (caches that others have
filled, a processor shared or slowed down) comes and goes, so both sides are measured in turn and the least of each
counts; what costs too much costs it every time.
"""

from __future__ import annotations

import gc
import math
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

_ATTEMPTS: Final = 8
_ROUNDS: Final = 1 << 16


def seconds(work: Callable[[], object]) -> float:
    """Return what ``work`` takes of the processor, once."""
    collecting = gc.isenabled()
    gc.disable()  # what the collector costs depends on everything else that lives
    try:
        start = time.thread_time()
        work()
        return max(time.thread_time() - start, 1e-6)
    finally:
        if collecting:
            gc.enable()


def steps(work: Callable[[], object]) -> int:
    """Return how many instructions of Python ``work`` takes: the same each time. What is written in C is none."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:  # Any: as ``sys.settrace`` has it
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def _loop() -> None:
    left = _ROUNDS
    while left:
        left -= 1


def a_round() -> float:
    """Return what one round of an empty loop takes of the processor, in seconds."""
    return min(seconds(_loop) for _ in range(_ATTEMPTS)) / _ROUNDS


def rounds(work: Callable[[], object], bound: float) -> float:
    """Return what ``work`` costs, in rounds of an empty loop. Measured again while it seems to be above ``bound``."""
    least = loop = math.inf
    for _ in range(_ATTEMPTS):
        loop = min(loop, seconds(_loop))
        least = min(least, seconds(work))
        if least * _ROUNDS <= bound * loop:
            break
    return least * _ROUNDS / loop


def times(make: Callable[[int], Callable[[], object]], more: int, less: int, bound: float) -> float:
    """Return how many times as much the work ``make(more)`` costs as ``make(less)``; what making it costs is apart.

    Measured again while it seems to be above ``bound``.
    """
    most = least = math.inf
    for _ in range(_ATTEMPTS):
        least = min(least, seconds(make(less)))
        most = min(most, seconds(make(more)))
        if most <= bound * least:
            break
    return most / least
