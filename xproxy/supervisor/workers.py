"""The workers of a supervisor: starting them, telling them things, ending them."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from xproxy.supervisor import messages
from xproxy.supervisor.asking import Asking
from xproxy.supervisor.link import Link
from xproxy.supervisor.listeners import Sockets
from xproxy.supervisor.log import Log
from xproxy.supervisor.loop import Loop, Timer
from xproxy.supervisor.messages import close_all
from xproxy.supervisor.spawn import spawn
from xproxy.supervisor.succession import Succession
from xproxy.supervisor.table import Command, Phase, Worker


class Workers:
    """All of them, with what they share."""

    def __init__(
        self,
        loop: Loop,
        log: Log,
        environment: dict[str, str],
        heard: Callable[[Worker, dict[str, object]], object],
        gone: Callable[[Worker], object],
    ) -> None:
        """``heard`` is called for each message of one; it raises ValueError for a wrong one.

        ``gone`` is called when one that is no child of ours has ended.
        """
        self.table: Final[Sockets] = Sockets()
        self.loop: Final = loop
        self.log: Final = log
        self.commands: Final[dict[int, Command]] = {}
        """By generation: those of which a worker is, or may be, started; see ``forget``."""
        self.newest = 0
        """The generation that serves, or is the first."""
        self.links: Final[dict[int, Link]] = {}
        """By worker."""
        self.stopping = ""
        """The signal that ends us."""
        self.restarts: Final[dict[int, Timer]] = {}
        """By index: one that is about to be started again."""
        self.has_begun: Final[set[int]] = set()
        """Generations whose workers have been told to serve: those that die are started again."""
        # A supervisor that goes on in another program forgets its questions: a late answer is to none of the new.
        first = time.monotonic_ns() // 1000
        self._asking = Asking(loop, self.table, self.links, first)
        self.environment: Final = environment
        self._heard = heard
        self._gone = gone
        self.elsewhere: tuple[int, Succession] | None = None
        """A generation that another supervisor starts, and that one."""

    def start(
        self, index: int, generation: int, count: int, channel: socket.socket | None = None
    ) -> Worker | str:
        """Start a worker; a text is why that cannot be, and is in the log. ``channel``: to whom it follows."""
        worker = self.table.add(index, generation, count)
        worker.since = time.monotonic()
        try:
            ours, theirs = messages.pair()
        except OSError as exc:
            return self._not_started(worker, exc)
        link = self.connect(worker, ours)
        link.say(
            {
                "kind": "welcome",
                "v": messages.VERSION,
                "index": index,
                "generation": generation,
                "count": count,
            }
        )
        with theirs:
            try:
                self._start(worker, theirs, channel)
            except (OSError, ValueError) as exc:
                # ValueError: what no operating system takes for an argument or a variable.
                del self.links[worker.id]
                link.close()
                return self._not_started(worker, exc)
        return worker

    def _start(self, worker: Worker, control: socket.socket, channel: socket.socket | None) -> None:
        if self.elsewhere is not None and self.elsewhere[0] == worker.generation:
            worker.foreign = True
            self.elsewhere[1].start(worker, control, channel)
        else:
            command = self.commands[worker.generation]
            worker.pid = spawn(command, self.environment, control, channel)

    def connect(
        self,
        worker: Worker,
        sock: socket.socket,
        waiting: Iterable[tuple[bytes, list[int]]] = (),
    ) -> Link:
        """Hear a worker at our end of its control socket from now on. ``waiting``: see Link."""
        link = Link(
            self.loop,
            sock,
            lambda message, found: self._hear(worker, message, found),
            lambda why: self._lost(worker, why),
            waiting,
        )
        self.links[worker.id] = link
        return link

    def _not_started(self, worker: Worker, exc: OSError | ValueError) -> str:
        executable = self.commands[worker.generation].executable
        reason = getattr(exc, "strerror", None) or exc
        why = f"cannot start {executable}: {reason}"
        self.log.error(f"worker {worker.index}: {why}")
        self.table.remove(worker)
        return why

    def _hear(self, worker: Worker, message: dict[str, object], found: list[int]) -> None:
        try:
            if message["kind"] == "ask":
                self._asking.ask(worker, message)
            elif message["kind"] == "told":
                self._asking.told(worker, message, found)
            else:
                self._heard(worker, message)
        finally:
            close_all(found)  # nothing else that a worker says comes with descriptors

    def ended(self, worker: Worker) -> None:
        """Forget one that has ended, when what it still said has been heard."""
        link = self.links.pop(worker.id, None)
        if link is not None:
            link.finish()
        self.table.remove(worker)
        self._asking.ended(worker)

    def say(self, worker: Worker, message: Mapping[str, object]) -> None:
        """Say something to a worker that may have ended."""
        link = self.links.get(worker.id)
        if link is not None:
            link.say(message)

    def _lost(self, worker: Worker, why: str) -> None:
        # Its end, if it is that, comes as SIGCHLD from a child.
        if worker.foreign:
            self.loop.after(0.0, lambda: self._gone(worker))
        elif why and not self.stopping:
            self.log.warning(f"{worker} cannot be talked to any more: {why}")

    def serve(self, worker: Worker, *, announce: bool = False) -> None:
        """Let a worker accept. ``announce``: and say where."""
        worker.phase = Phase.SERVING
        self.say(worker, {"kind": "start", "announce": announce})

    def begun(self, generation: int) -> None:
        """Note that workers of a generation accept: those that die are started again from now on."""
        self.has_begun.add(generation)
        self.newest = generation

    def forget(self, *wanted: int) -> None:
        """Forget generations that have no worker, unless they are ``wanted``: there may be an upgrade each minute.

        As long as one is about to be started again, it may be of any.
        """
        if self.restarts:
            return
        kept = {*wanted, self.newest, *self.table.generations()}
        for generation in [one for one in self.commands if one not in kept]:
            del self.commands[generation]
            self.has_begun.discard(generation)

    def cancel_restart(self, index: int) -> None:
        """Do not start one again there. Idempotent."""
        timer = self.restarts.pop(index, None)
        if timer is not None:
            timer.cancel()

    def drain(self, worker: Worker) -> None:
        """Let a worker end, when what it serves has ended."""
        worker.unused = worker.unused or worker.phase in (Phase.STARTING, Phase.PREPARED)
        worker.phase = Phase.LEAVING
        worker.gives = False
        if worker.said_hello:
            self.say(worker, {"kind": "drain", "signal": self.stopping or "the supervisor"})
        else:
            self.kill(worker, signal.SIGTERM)  # nobody there to hear it otherwise

    def cut(self, worker: Worker) -> None:
        """Let a worker end now."""
        if worker.said_hello:
            self.say(worker, {"kind": "cut", "signal": self.stopping or "the supervisor"})
        else:
            self.kill(worker, signal.SIGKILL)

    def kill(self, worker: Worker, which: int) -> None:
        """Send a worker a signal; one that has ended gets none, nor one that never was: pid 0 were all of us."""
        if worker.foreign:
            there = self.elsewhere
            if there is None or there[0] != worker.generation:
                self.say(worker, {"kind": "cut", "signal": "the supervisor"})
            elif there[1].there:
                there[1].kill(worker, which)
            else:
                self._let_go(worker)
            return
        if not worker.pid:
            return
        try:
            os.kill(worker.pid, which)
        except ProcessLookupError:
            return

    def _let_go(self, worker: Worker) -> None:
        # Whoever could end it has gone: it is told to, and whether it hears that we shall not learn.
        self.say(worker, {"kind": "cut", "signal": "the supervisor"})
        link = self.links.get(worker.id)
        if link is not None:
            link.close()
        self.loop.after(0.0, lambda: self._gone(worker))
