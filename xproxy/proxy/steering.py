"""What a proxy is told while it runs, whoever tells it: to reload, to drain, to end the drain."""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from typing import Final, Protocol

import trio

from xproxy.proxy.reload import Load, Reloadable, Reloader

_logger = logging.getLogger(__name__)

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Steered(Reloadable, Protocol):
    """The runtime as this sees it."""

    draining: bool

    def stop(self) -> None: ...

    def cut(self) -> None: ...


class Steering:
    """Nothing here waits for anything: whatever a reload is held up by, the end is not."""

    __slots__ = ("_reloader", "_runtime")

    def __init__(self, runtime: Steered, reload: Load | None, nursery: trio.Nursery) -> None:
        self._runtime = runtime
        self._reloader = Reloader(runtime, reload, nursery)

    def reload(self, name: str, told: trio.Event | None = None) -> None:
        """Put the configuration in force that there is now. ``told`` is set when that is done, or has failed."""
        if self._runtime.draining:
            _logger.warning("%s: ignored, the proxy drains", name)
            if told is not None:
                told.set()
        else:
            self._reloader.ask(told)

    def drain(self, name: str) -> None:
        """Accept no more, and end when what is in flight has. Idempotent."""
        if not self._runtime.draining:
            _logger.info("%s: draining", name)
            self._reloader.cancel()
            self._runtime.stop()

    def cut(self, name: str) -> None:
        """End what is in flight."""
        _logger.warning("%s again: what is in flight is cut off", name)
        self._runtime.cut()

    def end(self, name: str) -> None:
        """Drain; the second time end what is in flight."""
        if self._runtime.draining:
            self.cut(name)
        else:
            self.drain(name)


class Signals:
    """The signals of a process, from the moment at which it is made: none ends it in the signal's own way."""

    __slots__ = ("_received",)

    def __init__(self, received: AsyncIterator[int]) -> None:
        self._received = received

    async def steer(self, steering: Steering, alone: Callable[[], bool]) -> None:
        """Pass them on, until cancelled.

        ``alone`` says whether there is no supervisor. Where there is one, what a terminal says to all processes comes
        from it, and once; SIGTERM may be meant for this one, but how often it came does not say anything.
        """
        async for number in self._received:
            name = signal.Signals(number).name
            if not alone():
                if number == signal.SIGTERM:
                    steering.drain(name)
            elif number == signal.SIGHUP:
                steering.reload(name)
            else:
                steering.end(name)


@contextlib.contextmanager
def _receiving() -> Iterator[Signals]:
    with trio.open_signal_receiver(*SIGNALS) as received:
        yield Signals(received)


def receive_signals() -> AbstractContextManager[Signals]:
    """Catch SIGTERM, SIGINT and SIGHUP within the block."""
    return _receiving()
