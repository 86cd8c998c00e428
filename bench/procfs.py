"""CPU time and memory as Linux's ``/proc`` tells them (proc(5)). The ``parse_`` functions are pure."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import attrs

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


@attrs.frozen(kw_only=True)
class ProcessStat:
    """What ``/proc/PID/stat`` says of a process."""

    pid: int
    parent: int
    own_ticks: int
    """User and system time of its threads."""
    reaped_ticks: int
    """User and system time of children that have ended and been waited for."""


def parse_process_stat(text: str) -> ProcessStat:
    """Read one line of ``/proc/PID/stat``."""
    # The second field is the command's name in brackets and may itself hold blanks and brackets.
    before, _, after = text.rpartition(")")
    fields = after.split()
    user, system, children_user, children_system = (int(field) for field in fields[11:15])
    return ProcessStat(
        pid=int(before.split(" ", 1)[0]),
        parent=int(fields[1]),
        own_ticks=user + system,
        reaped_ticks=children_user + children_system,
    )


def parse_busy_ticks(text: str) -> int:
    """Return the time all CPUs together were not idle, from the first line of ``/proc/stat``."""
    fields = [int(field) for field in text.splitlines()[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields[:8]
    return user + nice + system + irq + softirq + steal


def parse_rss_kib(text: str) -> int:
    """Return the resident size in KiB from ``/proc/PID/smaps_rollup``."""
    for line in text.splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1])
    raise ValueError("smaps_rollup without an Rss line")


def descendants(root: int, stats: Iterable[ProcessStat]) -> list[ProcessStat]:
    """Return the process ``root`` and all that come from it, ended ones excepted."""
    children: dict[int, list[ProcessStat]] = {}
    found: list[ProcessStat] = []
    for stat in stats:
        children.setdefault(stat.parent, []).append(stat)
        if stat.pid == root:
            found.append(stat)
    # The list grows while it is walked: that is the breadth-first search.
    for stat in found:
        found.extend(children.get(stat.pid, ()))
    return found


def cpu_ticks(tree: Iterable[ProcessStat]) -> int:
    """Return the CPU time of a tree; time of a child that ends moves to its parent and so is not lost."""
    return sum(stat.own_ticks + stat.reaped_ticks for stat in tree)


def read_tree(root: int) -> list[ProcessStat]:
    """Return the living processes of the tree under ``root``."""
    stats = []
    for entry in os.listdir(_PROC):
        if entry.isdigit():
            try:
                stats.append(parse_process_stat((_PROC / entry / "stat").read_text()))
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended since the folder was listed
    return descendants(root, stats)


def tree_cpu_seconds(root: int) -> float:
    """Return user and system time of the tree under ``root``, in seconds, in steps of 10 ms."""
    return cpu_ticks(read_tree(root)) / TICKS_PER_SECOND


def tree_rss_kib(root: int) -> int:
    """Return the resident memory of the tree under ``root``; pages shared within it count several times."""
    return sum(
        parse_rss_kib((_PROC / str(stat.pid) / "smaps_rollup").read_text())
        for stat in read_tree(root)
    )


def machine_busy_seconds() -> float:
    """Return the time all CPUs were busy since boot, in CPU seconds."""
    return parse_busy_ticks((_PROC / "stat").read_text()) / TICKS_PER_SECOND


def machine_facts() -> Mapping[str, str | int]:
    """Return what a reader must know of the machine to judge the figures."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in (_PROC / "cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "unknown",
    )
    system = os.uname()
    return {
        "cpu": model,
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": f"{system.sysname} {system.release}",
    }
