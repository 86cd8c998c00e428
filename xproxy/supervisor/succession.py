"""Handing over to the supervisor of another process: it starts the new workers, and gets everything when they serve.

It is an upgrade like any other, but that the new generation is started there. We talk to its workers ourselves until
it is over; a worker that is no child of ours has ended when its control socket has. Then what we know is written down
as for ``execve``, goes there with all descriptors, and we keep nothing but our children, until they have ended.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Final

from xproxy.supervisor import memory, messages
from xproxy.supervisor.control import Client
from xproxy.supervisor.loop import Loop, Timer
from xproxy.supervisor.messages import number
from xproxy.supervisor.renewal import Renewed, Written
from xproxy.supervisor.table import Worker

RESUME_SECONDS: Final = 10.0
"""The other supervisor has so long to go on from what it got."""


class Succession:
    """To one other supervisor."""

    def __init__(
        self,
        loop: Loop,
        client: Client,
        write: Callable[[], Written],
        over: Callable[[Renewed], object],
    ) -> None:
        """``client``: the other one. ``over`` is called once after ``give``: ``renewed`` if that one goes on."""
        self._loop = loop
        self.client: Final = client
        self._write = write
        self._over = over
        self._timer: Timer | None = None
        self._started: dict[int, Worker] = {}

    @property
    def there(self) -> bool:
        """Whether the other one hears what is said to it."""
        return self.client.link is not None

    def start(self, worker: Worker, control: socket.socket, channel: socket.socket | None) -> None:
        """Let it start a worker with these ends. Raises OSError: it has gone."""
        if self.client.link is None:
            raise OSError("the other supervisor has gone")
        ends = [control.fileno(), *([channel.fileno()] if channel is not None else [])]
        self._started[worker.id] = worker
        self.client.link.say({"kind": "start", "worker": worker.id}, ends)

    def started(self, message: dict[str, object]) -> None:
        """It has started one, and says its pid there. Raises ValueError."""
        worker = self._started.get(number(message, "worker"))
        if worker is not None:
            worker.pid = number(message, "pid")

    def kill(self, worker: Worker, which: int) -> None:
        """Let it send a worker a signal."""
        self.client.say({"kind": "kill", "worker": worker.id, "signal": which})

    def give(self) -> None:
        """Give it all. Nothing is to be read from what is given until ``over`` says that it does not go on."""
        link = self.client.link
        if link is None:
            self._over(Renewed("kept", "the other supervisor has gone"))
            return
        try:
            written = self._write()
            state = memory.put(written.data)
            try:
                link.say({"kind": "state"}, [state])
            finally:
                os.close(state)
            most = messages.MOST_DESCRIPTORS
            for n in range(0, len(written.descriptors), most):
                some = written.descriptors[n : n + most]
                link.say({"kind": "descriptors", "numbers": some}, some)
            link.say({"kind": "resume"})
        except (OSError, ValueError) as exc:
            self._over(Renewed("kept", f"it cannot be given everything: {exc}"))
            return
        self._timer = self._loop.after(RESUME_SECONDS, self._too_late)

    def resumed(self) -> None:
        """It could go on, and does when it is told that all is done."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._over(Renewed("renewed"))

    def _too_late(self) -> None:
        if self._timer is not None:
            self._timer = None
            why = f"the other supervisor did not go on within {RESUME_SECONDS:g} s"
            self._over(Renewed("kept", why))
