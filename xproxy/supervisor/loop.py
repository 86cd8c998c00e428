"""One thread that waits for descriptors, signals and times, and calls whoever asked for them."""

from __future__ import annotations

import heapq
import itertools
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterable
from typing import Protocol


class HasFileno(Protocol):
    def fileno(self) -> int: ...


class Timer:
    """Something that is to be called at a time."""

    __slots__ = ("at", "call")

    def __init__(self, call: Callable[[], object], at: float = 0.0) -> None:
        """``at``: on the monotonic clock."""
        self.at = at
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        """Do not call it. Idempotent."""
        self.call = None


class Loop:
    """Calls, one after the other; nothing that is called may block."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._signalled: Callable[[int], object] = lambda _: None
        self._wakes, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._over = False
        self.watch(self._wakes, self.take_signals)

    def close(self) -> None:
        """Give back its descriptors."""
        signal.set_wakeup_fd(-1)
        self._selector.close()
        os.close(self._wakes)
        os.close(self._wake)

    # ---- descriptors

    def watch(
        self, thing: int | HasFileno, call: Callable[[], object], *, writing: bool = False
    ) -> None:
        """Call whenever it is readable, with ``writing`` also when it can be written; replaces what was asked."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
        try:
            self._selector.modify(thing, events, call)
        except KeyError:
            self._selector.register(thing, events, call)

    def forget(self, thing: int | HasFileno) -> None:
        """Call no more. Idempotent; to be said before it is closed."""
        try:
            self._selector.unregister(thing)
        except (KeyError, ValueError):
            return

    # ---- times

    def after(self, seconds: float, call: Callable[[], object]) -> Timer:
        """Call once, when that time has passed."""
        timer = Timer(call, time.monotonic() + seconds)
        heapq.heappush(self._timers, (timer.at, next(self._order), timer))
        return timer

    # ---- signals

    def signals(self, numbers: Iterable[int], call: Callable[[int], object]) -> None:
        """Call for each of these signals, in the loop and never amid anything."""
        self._signalled = call
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, _noted)

    def take_signals(self) -> None:
        """Call now for those that have come. Only what is blocked at that time can come later."""
        try:
            found = os.read(self._wakes, 4096)
        except BlockingIOError:
            return
        for number in found:
            self._signalled(number)

    # ---- running

    def stop(self) -> None:
        """Let ``run`` return."""
        self._over = True

    def run(self) -> None:
        """Wait and call, until ``stop``."""
        while not self._over:
            for key, _ in self._selector.select(self._patience()):
                # One that was called before it may have ended this one.
                if not self._over and self._selector.get_map().get(key.fd) is key:
                    key.data()
            self._call_timers()

    def _patience(self) -> float | None:
        while self._timers and self._timers[0][2].call is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return None
        return max(0.0, self._timers[0][0] - time.monotonic())

    def _call_timers(self) -> None:
        while not self._over and self._timers and self._timers[0][0] <= time.monotonic():
            call = heapq.heappop(self._timers)[2].call
            if call is not None:
                call()


def _noted(_number: int, _frame: object) -> None:
    """Do nothing: the descriptor of ``set_wakeup_fd`` says it."""
