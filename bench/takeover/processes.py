"""The proxy's processes while it is upgraded: which there are, what each takes, and when the old ones have gone.

Read often and beside a load that must not notice: by the small files of ``/proc``, not by those of ``bench.procfs``.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from bench.procfs import TICKS_PER_SECOND, parse_process_stat

_PROC = Path("/proc")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
LOOK_SECONDS = 0.05


def descendants(root: int) -> list[int]:
    """Return the living processes below ``root``, nearest first."""
    found, level = [], [root]
    while level:
        below = []
        for pid in level:
            try:
                for task in os.listdir(_PROC / str(pid) / "task"):
                    text = (_PROC / str(pid) / "task" / task / "children").read_text()
                    below += [int(child) for child in text.split()]
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended since
        found += below
        level = below
    return found


def session(leader: int) -> list[int]:
    """Return the living processes of a session: also those whose parent has ended or that have their own group."""
    found = []
    for entry in os.listdir(_PROC):
        if entry.isdigit():
            try:
                text = (_PROC / entry / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended since the folder was listed
            state, _, _, its = text.rpartition(")")[2].split()[:4]
            if int(its) == leader and state != "Z":
                found.append(int(entry))
    return found


@attrs.frozen
class Sample:
    """A process at a moment."""

    at: float
    pid: int
    rss_bytes: int
    cpu_seconds: float
    descriptors: int


def sample(pid: int) -> Sample | None:
    """Look at a process; None if it has gone."""
    folder = _PROC / str(pid)
    try:
        resident = int((folder / "statm").read_text().split()[1]) * _PAGE_BYTES
        ticks = parse_process_stat((folder / "stat").read_text()).own_ticks
        descriptors = len(os.listdir(folder / "fd"))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return Sample(time.monotonic(), pid, resident, ticks / TICKS_PER_SECOND, descriptors)


@attrs.define(eq=False)
class Watch:
    """What was seen of a process and all below it."""

    root: int
    samples: list[Sample] = attrs.field(factory=list)

    def look(self) -> None:
        """Take one sample of each."""
        for pid in (self.root, *descendants(self.root)):
            if (found := sample(pid)) is not None:
                self.samples.append(found)

    def of(self, pids: Sequence[int], begin: float = 0.0, end: float = float("inf")) -> Figures:
        """Return what these processes took together between two moments."""
        wanted = [s for s in self.samples if s.pid in pids and begin <= s.at <= end]
        rounds: dict[int, list[Sample]] = {}
        for one in wanted:
            rounds.setdefault(one.pid, []).append(one)
        return Figures(
            rss_bytes=sum(max(s.rss_bytes for s in seen) for seen in rounds.values()),
            cpu_seconds=sum(seen[-1].cpu_seconds - seen[0].cpu_seconds for seen in rounds.values()),
            descriptors=sum(max(s.descriptors for s in seen) for seen in rounds.values()),
        )

    def latest_bytes(self) -> int:
        """Return what all of them hold now."""
        now = [sample(pid) for pid in (self.root, *descendants(self.root))]
        return sum(one.rss_bytes for one in now if one is not None)

    def peak_bytes(self) -> int:
        """Return the most that all of them held at one look, whatever they were."""
        most, at, total = 0, 0.0, 0
        for one in self.samples:
            if one.pid == self.root:
                most, at, total = max(most, total), one.at, 0
            if one.at >= at:
                total += one.rss_bytes
        return max(most, total)


@attrs.frozen(kw_only=True)
class Figures:
    """Of some processes, over some time."""

    rss_bytes: int
    """The most each of them held, added up."""
    cpu_seconds: float
    descriptors: int
    """The most each of them had, added up."""


@contextmanager
def watching(root: int) -> Iterator[Watch]:
    """Look at a process and all below it, several times a second, until the block is left."""
    watch, over = Watch(root), threading.Event()

    def go_on() -> None:
        while not over.wait(LOOK_SECONDS):
            watch.look()

    watch.look()
    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()
        watch.look()


@attrs.define(eq=False)
class Leaving:
    """Processes whose end is waited for."""

    pids: Sequence[int]
    ended: dict[int, float] = attrs.field(factory=dict)
    """When each has ended, by its pid."""
    _files: dict[int, int] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        for pid in self.pids:
            try:
                self._files[os.pidfd_open(pid)] = pid
            except ProcessLookupError:
                self.ended[pid] = time.monotonic()

    @property
    def gone(self) -> float | None:
        """When the last one has ended; None: one is there."""
        return max(self.ended.values(), default=0.0) if not self._files else None

    def wait(self, seconds: float) -> bool:
        """Wait until all have ended, at most so long; say whether they have."""
        deadline = time.monotonic() + seconds
        while self._files:
            left = deadline - time.monotonic()
            ended, _, _ = select.select(list(self._files), [], [], max(0.0, left))
            if not ended:
                return False
            for file in ended:
                self.ended[self._files.pop(file)] = time.monotonic()
                os.close(file)
        return True

    def close(self) -> None:
        while self._files:
            os.close(self._files.popitem()[0])
