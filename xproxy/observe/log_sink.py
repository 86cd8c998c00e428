"""Where log lines go: ``stdout``, ``stderr`` or a file, each written by one thread of its own.

Nobody who logs ever waits for it: a full pipe, a slow disk or a stalled terminal stops this thread and nothing else.
The thread is none of Trio's, whose number is bounded and which other slow work may hold. (Envoy's access log has a
flush thread likewise: source/common/access_log/access_log_manager_impl.cc.)
"""

from __future__ import annotations

import errno
import logging
import os
import select
import stat
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Final, Protocol, final

import attrs

FLUSH_INTERVAL: Final = 0.05
"""Seconds between two writes, so that under load many lines share one."""
BATCH_BYTES: Final = 262_144
"""Bytes of lines that one write takes at most, beyond its first line."""

_STREAMS: Final = {"stdout": 1, "stderr": 2}
_logger = logging.getLogger(__name__)


@attrs.define(eq=False)
class LogStats:
    """Counters of one destination, shown by its name."""

    lines_written: int = 0
    lines_dropped: int = 0
    """There was no room for them: whoever reads the log is too slow."""
    lines_lost: int = 0
    """They could not be written: the disk is full, the pipe is broken."""
    write_failures: int = 0
    lines_held_back: int = 0
    """Of many that were alike; a line said how many."""


class Source(Protocol):
    """A queue of lines, as the thread that writes them sees it."""

    def take(self, most_bytes: int) -> tuple[Sequence[bytes], int]:
        """Return the next lines, and how many of them are lines that somebody wrote (the others tell of gaps)."""
        ...

    def settled(self, lines: Sequence[bytes], count: int, *, written: bool) -> None:
        """What was taken has been written, or is lost."""
        ...

    def emptied(self) -> None:
        """All has been taken and settled."""
        ...


@final
class Sink:
    """One destination. Any number of sources; ``leave`` of the last ends it."""

    __slots__ = (
        "_ended",
        "_failing",
        "_fd",
        "_hurry",
        "_leaving",
        "_path",
        "_sources",
        "_wake",
        "asleep",
        "lock",
        "stats",
    )

    def __init__(self, path: str) -> None:
        """Open it. Raises OSError."""
        self._path = path
        self._fd = _STREAMS[path] if path in _STREAMS else _open(path)
        self._sources: tuple[Source, ...] = ()
        self._leaving: tuple[Source, ...] = ()
        # They have said goodbye, and some of their lines may wait yet.
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._ended = False
        self._failing = False
        self.asleep = False
        """The thread waits: ``wake`` it after a line was queued. Else it looks again by itself."""
        self.lock = threading.Lock()
        """Guards what several threads change; never held while anything is written."""
        self.stats = LogStats()

    def wake(self) -> None:
        """There is a line. Never blocks."""
        self.asleep = False
        self._wake.set()

    def _begin(self) -> None:
        # A daemon: a pipe that nobody reads must not keep the process from ending.
        threading.Thread(target=self._run, name=f"log {self._path}", daemon=True).start()

    def _run(self) -> None:
        while True:
            self.asleep = True
            if not self._write_some():
                if self._ended:
                    break
                self._wake.wait()
            self._wake.clear()
            self.asleep = False
            while self._write_some():
                self._hurry.wait(FLUSH_INTERVAL)
        if self._path not in _STREAMS:
            os.close(self._fd)

    def _write_some(self) -> bool:
        # Write all that waits, so that each source has its turn. False: there was nothing.
        some = False
        leaving = self._leaving
        for source in (*self._sources, *leaving):
            while True:
                lines, count = source.take(BATCH_BYTES)
                if not lines:
                    source.emptied()
                    break
                some = True
                written = self._write(lines)
                if written:
                    self.stats.lines_written += count
                else:
                    self.stats.lines_lost += count
                source.settled(lines, count, written=written)
                if not written:
                    break  # no hurry with what cannot be written either
        if not some and leaving:
            with self.lock:
                self._leaving = tuple(one for one in self._leaving if one not in leaving)
        return some

    def _write(self, lines: Sequence[bytes]) -> bool:
        try:
            if self._path not in _STREAMS and self._rotated():
                fresh = _open(self._path)
                os.close(self._fd)
                self._fd = fresh
            pipe = stat.S_ISFIFO(os.fstat(self._fd).st_mode)
            for text in whole_lines(lines, select.PIPE_BUF if pipe else sys.maxsize):
                data = memoryview(text)
                while data:
                    try:
                        data = data[os.write(self._fd, data) :]
                    except BlockingIOError:
                        # A terminal or pipe that another program made non-blocking.
                        select.select([], [self._fd], [], 1.0)
        except OSError as exc:
            self.stats.write_failures += 1
            if not self._failing:
                self._failing = True
                self._say(logging.ERROR, f"cannot be written: {exc.strerror}; its lines are lost")
            return False
        if self._failing:
            self._failing = False
            self._say(logging.WARNING, f"is written again; {self.stats.lines_lost} lines are lost")
        return True

    def _say(self, level: int, text: str) -> None:
        # Once for each time that it breaks. Of standard error itself nobody can be told but by the counters.
        if self._path != "stderr":
            _logger.log(level, "log %s %s (log.%s.lines_lost)", self._path, text, self._path)

    def _rotated(self) -> bool:
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return True
        return not os.path.samestat(there, os.fstat(self._fd))

    # ---- who writes here

    def join(self, source: Source) -> None:
        """Write what ``source`` has, from now on."""
        with self.lock:
            first = not self._sources
            self._sources = (*self._sources, source)
        if first:
            self._begin()
        self.wake()

    def leave(self, source: Source) -> bool:
        """Write what is left of ``source``, and then no more. True: nobody else writes here."""
        with self.lock:
            self._sources = tuple(one for one in self._sources if one is not source)
            self._leaving = (*self._leaving, source)
            self._ended = not self._sources
        if self._ended:
            self._hurry.set()
        self.wake()
        return self._ended


def whole_lines(lines: Sequence[bytes], most: int) -> Iterator[bytes]:
    """Join lines to texts of at most ``most`` bytes, each line whole; a longer one is a text of its own.

    What a pipe takes at once, ``PIPE_BUF`` bytes, stays together though several processes write to it (POSIX write):
    two of ours do while one takes over from the other.
    """
    text: list[bytes] = []
    size = 0
    for line in lines:
        size += len(line) + 1
        if text and size > most:
            yield b"\n".join([*text, b""])
            text, size = [], len(line) + 1
        text.append(line)
    if text:
        yield b"\n".join([*text, b""])


_sinks: Final[dict[str, Sink]] = {}
# One for each destination of this process: two threads on one descriptor would mix their lines.
_guard: Final = threading.Lock()


def attach(path: str, source: Source) -> Sink:
    """Let ``source`` write to ``path``, opened if nobody writes there yet. Raises OSError."""
    with _guard:
        sink = _sinks.get(path)
        if sink is None:
            sink = _sinks[path] = Sink(path)
        sink.join(source)
        return sink


def detach(path: str, source: Source) -> None:
    """End what ``attach`` began; ``source`` is told by ``emptied`` when its last line has been written."""
    with _guard:
        sink = _sinks.get(path)
        if sink is not None and sink.leave(source):
            del _sinks[path]


def check_path(path: str) -> None:
    """Raise OSError if ``path`` cannot be written. Changes nothing."""
    if path in _STREAMS:
        return
    if os.path.exists(path):
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK))
        return
    folder = os.path.dirname(path) or "."
    os.stat(folder)
    if not os.path.isdir(folder):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def _open(path: str) -> int:
    # Without waiting: a named pipe that nobody reads yet would hold whoever opens it.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    fd = os.open(path, flags, 0o640)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.set_blocking(fd, True)
    return fd
