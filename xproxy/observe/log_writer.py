"""Queues of log lines, bounded in lines and in bytes: who logs never waits for who reads the log."""

from __future__ import annotations

import collections
import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final, final

import trio

from xproxy.model.limits import MIB
from xproxy.observe.log_sink import LogStats, Sink, attach, detach

FAREWELL: Final = 1.0
"""Seconds that the last lines have when a log ends."""
MAX_PENDING_BYTES: Final = 8 * MIB
"""Bytes of lines that wait to be written, where the log says nothing else."""


@final
class LineWriter:
    """Lines on their way to ``stdout``, ``stderr`` or a file.

    At most ``max_pending`` lines and ``max_pending_bytes`` bytes wait; more are dropped, counted, and reported in a
    line of their own, made by ``describe_dropped``. One thread at a time may ``write``.
    """

    __slots__ = (
        "_describe_dropped",
        "_done",
        "_done_bytes",
        "_drained",
        "_lines",
        "_lost",
        "_max_bytes",
        "_max_pending",
        "_on_drained",
        "_path",
        "_queued",
        "_queued_bytes",
        "_refused",
        "_reported",
        "_reporting",
        "_sink",
        "_untold",
    )

    def __init__(
        self,
        path: str,
        max_pending: int,
        describe_dropped: Callable[[int], str],
        max_pending_bytes: int = MAX_PENDING_BYTES,
    ) -> None:
        self._path = path
        self._max_pending = max_pending
        self._max_bytes = max_pending_bytes
        self._describe_dropped = describe_dropped
        self._lines: collections.deque[bytes] = collections.deque()
        # Each of these is changed by one thread only, and only grows: the writer's …
        self._queued = self._queued_bytes = self._refused = 0
        # … and the sink's.
        self._done = self._done_bytes = self._lost = self._reported = 0
        self._reporting = 0
        # Missing lines that the batch under way tells of.
        self._untold = False
        # A line about missing ones could not be written: it waits until there is another one to write.
        self._sink: Sink | None = None
        self._on_drained: Callable[[], object] | None = None

    @property
    def dropped(self) -> int:
        """Lines dropped since the start: no room for them, or they could not be written."""
        return self._refused + self._lost

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait, with what is being written."""
        return self._queued_bytes - self._done_bytes

    @property
    def stats(self) -> LogStats | None:
        """The counters of where it writes; None while it does not."""
        return self._sink.stats if self._sink is not None else None

    def write(self, line: str) -> None:
        """Queue a line, or drop it. Never blocks; the caller sees to it that there is no line break inside."""
        data = line.encode("utf-8", "backslashreplace")
        sink = self._sink
        if (
            self._queued - self._done >= self._max_pending
            or self._queued_bytes - self._done_bytes + len(data) > self._max_bytes
        ):
            self._refused += 1
            if sink is not None:
                with sink.lock:
                    sink.stats.lines_dropped += 1
            return
        self._queued += 1
        self._queued_bytes += len(data)
        self._lines.append(data)
        if sink is not None and sink.asleep:
            sink.wake()

    # ---- life

    def open(self) -> None:
        """Begin to write. Raises OSError if that place cannot be written."""
        self._on_drained = None
        self._sink = attach(self._path, self)

    def close(self, drained: Callable[[], object] | None = None) -> None:
        """Write what is left, and then no more; ``drained`` is called in another thread when that is done."""
        if self._sink is not None:
            self._on_drained = drained
            self._sink = None
            detach(self._path, self)

    def close_and_wait(self, seconds: float = FAREWELL) -> bool:
        """Like ``close``; blocks until all is written, but no longer than that. Says whether it is."""
        if self._sink is None:
            return True
        written = threading.Event()
        self.close(written.set)
        return written.wait(seconds)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled, then for at most ``FAREWELL`` seconds more.

        Raises OSError if the file cannot be opened. A write that fails later costs its lines: they count as dropped.
        """
        self.open()
        try:
            task_status.started()
            await trio.sleep_forever()
        finally:
            await self._leave()

    async def _leave(self) -> None:
        over = trio.Event()
        token = trio.lowlevel.current_trio_token()

        def drained() -> None:
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(over.set)

        self.close(drained)
        with trio.CancelScope(shield=True), trio.move_on_after(FAREWELL):
            await over.wait()

    # ---- the sink's thread

    def take(self, most_bytes: int) -> tuple[Sequence[bytes], int]:
        """See Source."""
        batch = list(self._next(most_bytes))
        count = len(batch)
        missing = self._refused + self._lost - self._reported
        if missing and not self._lines and (batch or not self._untold):
            self._reporting = missing
            batch.append(self._describe_dropped(missing).encode())
        return batch, count

    def _next(self, most_bytes: int) -> Iterator[bytes]:
        lines = self._lines
        while lines and most_bytes > 0:
            line = lines.popleft()
            most_bytes -= len(line)
            yield line

    def settled(self, lines: Sequence[bytes], count: int, *, written: bool) -> None:
        """See Source."""
        if written:
            self._reported += self._reporting
        else:
            self._lost += count
        self._untold = not written
        self._reporting = 0
        self._done += count
        self._done_bytes += sum(map(len, lines[:count]))

    def emptied(self) -> None:
        """See Source."""
        tell = self._on_drained
        if tell is not None and self._done == self._queued:
            self._on_drained = None
            tell()
