"""Writes lines to a file without ever making a request wait: a bounded queue, and one task that empties it.

Writing happens in a thread, many lines at once: a full pipe or a slow disk stops the log, not the proxy.
"""

from __future__ import annotations

import collections
import os
import select
import threading
from collections.abc import Callable
from typing import Final, final

import trio

FLUSH_INTERVAL: Final = 0.05
"""Seconds between two writes, so that under load many lines share one."""
FAREWELL: Final = 1.0
"""Seconds that the last lines have when the writer is cancelled."""

_STREAMS: Final = {"stdout": 1, "stderr": 2}


@final
class LineWriter:
    """Lines on their way to ``stdout``, ``stderr`` or a file.

    At most ``max_pending`` wait; more are dropped, counted, and reported in a line of their own.
    """

    __slots__ = (
        "_closing",
        "_describe_dropped",
        "_idle",
        "_lines",
        "_max_pending",
        "_path",
        "_unreported",
        "_wake",
        "dropped",
    )

    dropped: int
    """Lines dropped since the start."""

    def __init__(self, path: str, max_pending: int, describe_dropped: Callable[[int], str]) -> None:
        self._path = path
        self._max_pending = max_pending
        self._describe_dropped = describe_dropped
        self._lines: collections.deque[str] = collections.deque()
        self._wake = trio.Event()
        self._closing = trio.Event()
        self._idle = False
        self._unreported = 0
        self.dropped = 0

    def write(self, line: str) -> None:
        """Queue a line, or drop it. Never blocks; the caller sees to it that there is no line break inside."""
        if len(self._lines) >= self._max_pending:
            self.dropped += 1
            self._unreported += 1
            return
        self._lines.append(line)
        if self._idle:
            self._idle = False
            self._wake.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled, then for at most ``FAREWELL`` seconds more.

        Raises OSError if the file cannot be opened. A write that fails later costs its lines: they count as dropped.
        """
        sink = _Sink(self._path)
        self._closing = trio.Event()
        scope = trio.CancelScope(shield=True)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pump, sink, scope)
                task_status.started()
                try:
                    await trio.sleep_forever()
                finally:
                    self._closing.set()
                    self._wake.set()
                    scope.deadline = trio.current_time() + FAREWELL
        finally:
            sink.close()

    async def _pump(self, sink: _Sink, scope: trio.CancelScope) -> None:
        with scope:
            while True:
                if not self._lines and not self._unreported:
                    if self._closing.is_set():
                        return
                    self._wake = trio.Event()
                    self._idle = True
                    await self._wake.wait()
                    self._idle = False
                    continue
                batch = self._take()
                written = await trio.to_thread.run_sync(
                    sink.write, "\n".join([*batch, ""]), abandon_on_cancel=True
                )
                if not written:
                    self.dropped += len(batch)
                    self._unreported += len(batch)
                    if self._closing.is_set():
                        return
                with trio.move_on_after(FLUSH_INTERVAL):
                    await self._closing.wait()

    def _take(self) -> list[str]:
        batch = list(self._lines)
        self._lines.clear()
        if self._unreported:
            batch.append(self._describe_dropped(self._unreported))
            self._unreported = 0
        return batch


@final
class _Sink:
    """A descriptor to write to. A file that was renamed or removed (log rotation) is opened anew."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._writing = False
        self._closing = False
        self._fd = _STREAMS[path] if path in _STREAMS else _open(path)

    def write(self, text: str) -> bool:
        """Write all of it, blocking; tell whether that worked. Runs in a thread."""
        with self._lock:
            if self._closing:
                return False
            self._writing = True
        try:
            return self._write(text)
        finally:
            self._written()

    def _written(self) -> None:
        with self._lock:
            self._writing = False
            if self._closing:
                self._close()

    def _write(self, text: str) -> bool:
        data = memoryview(text.encode("utf-8", "backslashreplace"))
        try:
            if self._path not in _STREAMS and self._rotated():
                fresh = _open(self._path)
                os.close(self._fd)
                self._fd = fresh
            while data:
                try:
                    data = data[os.write(self._fd, data) :]
                except BlockingIOError:  # a terminal or pipe that another program made non-blocking
                    select.select([], [self._fd], [], 1.0)
        except OSError:
            return False
        return True

    def _rotated(self) -> bool:
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return True
        return not os.path.samestat(there, os.fstat(self._fd))

    def close(self) -> None:
        """Close it; if a thread still hangs in a write, that thread does when it comes out."""
        with self._lock:
            self._closing = True
            if not self._writing:
                self._close()

    def _close(self) -> None:
        if self._path not in _STREAMS:
            os.close(self._fd)


def _open(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
