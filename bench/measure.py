"""What a measuring window yields, and what several of them say together."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import attrs

from bench import procfs
from bench.processes import Process


@attrs.frozen(kw_only=True)
class Sample:
    """The figures of one contender in one window."""

    values: Mapping[str, float]
    """By the key of the figure, in its unit."""
    errors: int
    """Requests that failed or were answered wrongly."""
    others_cpu: float
    """What everything but this bench took meanwhile, as a share of one CPU."""


@attrs.define(eq=False)
class Window:
    """CPU time between entering and leaving; read it after leaving."""

    cpu_seconds: float = 0.0
    """User and system time of the watched process's tree."""
    elapsed: float = 0.0
    """Seconds."""
    others_cpu: float = 0.0


@contextmanager
def watch(process: Process | None) -> Iterator[Window]:
    """Measure what ``process`` and what everybody else takes while the block runs."""
    window = Window()
    us, busy = procfs.tree_cpu_seconds(os.getpid()), procfs.machine_busy_seconds()
    started = time.monotonic()
    spent = process.cpu_seconds if process is not None else 0.0
    yield window
    window.cpu_seconds = (process.cpu_seconds if process is not None else 0.0) - spent
    window.elapsed = time.monotonic() - started
    window.others_cpu = others_cpu(
        machine=procfs.machine_busy_seconds() - busy,
        ours=procfs.tree_cpu_seconds(os.getpid()) - us,
        elapsed=window.elapsed,
    )


def others_cpu(*, machine: float, ours: float, elapsed: float) -> float:
    """Return what others took as a share of one CPU.

    Both times are counted in ticks of 10 ms by different clocks, so a few per cent mean "about none",
    and a difference below none is none.
    """
    return max(0.0, (machine - ours) / elapsed)


def medians(samples: Sequence[Sample]) -> dict[str, float]:
    """Return the median of each figure over the windows."""
    return {key: statistics.median(s.values[key] for s in samples) for key in samples[0].values}


def ratios(samples: Sequence[Sample], peer: Sequence[Sample]) -> dict[str, float]:
    """Return, figure by figure, the median of the ratios to the peer in the same round.

    Windows of one round lie next to each other in time, so a machine that is slower for a while is slower
    for both and drops out; a ratio of two medians would not have that. A figure of which a round has
    nothing to divide by has no ratio.
    """
    pairs = list(zip(samples, peer, strict=False))
    return {
        key: statistics.median(mine.values[key] / theirs.values[key] for mine, theirs in pairs)
        for key in pairs[0][0].values
        if all(theirs.values.get(key, 0.0) > 0.0 for _, theirs in pairs)
    }
