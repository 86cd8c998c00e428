"""Waiting to be rescheduled, at half the price, for who waits for the same again and again.

``trio.lowlevel.wait_task_rescheduled`` makes three objects for each wait, about 0.5 µs of a request's 15 to 80. What
it yields to Trio's loop depends on nothing but who gives up the waiting: a ``Reason`` is that, made once.

A reason holds its ``abort`` and with it whose method that is: whoever keeps one of its own lets go of it at its end.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Generator
from typing import Any

import trio
from outcome import Outcome

Abort = Callable[[Any], trio.lowlevel.Abort]
"""Any: what trio gives it, and nobody here uses."""


class Reason:
    """Why tasks wait: made once for each who gives up waiting by ``abort``."""

    __slots__ = ("_said",)

    def __init__(self, abort: Abort) -> None:
        """``abort``: see ``wait_task_rescheduled``."""
        # What it yields is wanted, not the waiting.
        waiting = trio.lowlevel.wait_task_rescheduled(abort)  # noqa: ASYNC105
        try:
            self._said = waiting.send(None)
        finally:
            waiting.close()

    @types.coroutine
    def parked(self) -> Generator[Any, Outcome[Any], Any]:
        """Wait as ``wait_task_rescheduled`` does; return what the task is rescheduled with."""
        return (yield self._said).unwrap()
