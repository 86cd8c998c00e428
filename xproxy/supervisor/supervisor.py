"""The supervisor: starts workers, gives them their sockets, passes signals on, and starts anew what has died.

It reads no configuration and no client's byte. What it knows is in its table, and is decided there without doing
anything; this is where it is done.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from typing import Final

from xproxy.supervisor import listeners, messages
from xproxy.supervisor.backoff import Backoff
from xproxy.supervisor.link import Link
from xproxy.supervisor.log import Log
from xproxy.supervisor.loop import Loop, Timer
from xproxy.supervisor.messages import close_all, number, text
from xproxy.supervisor.sockets import CannotListen
from xproxy.supervisor.spawn import spawn
from xproxy.supervisor.systemd import Given, Notifier
from xproxy.supervisor.table import MOST_WORKERS, Command, Phase, Worker

_SIGNALS: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGUSR2,
    signal.SIGCHLD,
)
_FAILED: Final = "the start has failed"
"""What ends us, where it is no signal."""


class Supervisor:
    """Of one proxy. ``run`` returns when the last worker has ended."""

    def __init__(
        self, command: Command, environment: dict[str, str], given: Given, log: Log | None = None
    ) -> None:
        """``environment``: what workers have, after ``given`` has taken what is meant for us alone."""
        self.table: listeners.Sockets = listeners.Sockets()
        self.loop = Loop()
        self.log = log or Log()
        self.commands: Final[dict[int, Command]] = {}
        """By generation."""
        self.newest = 0
        """The generation that serves, or is being started."""
        self.links: Final[dict[int, Link]] = {}
        """By worker."""
        self.stopping = ""
        """The signal that ends us."""
        self._environment = environment
        self._given = given
        self._notifier = Notifier(given.notify)
        self._backoffs: dict[int, Backoff] = {}
        self._restarts: dict[int, Timer] = {}
        """By index: a worker that is about to be started again."""
        self._begun: set[int] = set()
        """Generations whose workers have been told to serve."""
        self._reloading: set[int] = set()
        """Workers that have not said yet how their reload went."""
        self._code = 0
        self._first = command

    # ---- life

    def run(self) -> int:
        """Serve until the last worker has ended; returns its exit code."""
        self.loop.signals(_SIGNALS, self._signalled)
        try:
            for wrong in listeners.take_given(self.table, self._given.sockets):
                self.log.warning(wrong)
            self.newest = 1
            self.commands[1] = self._first
            if not self.start(0, 1, 0):
                return 1
            if self._given.watchdog:
                self._alive()
            self.loop.run()
        finally:
            listeners.close_all(self.table)
            for link in list(self.links.values()):
                link.close()
            self._notifier.close()
            self.loop.close()
        return self._code

    def _alive(self) -> None:
        self._notifier.alive()
        self.loop.after(self._given.watchdog / 2, self._alive)

    def start(self, index: int, generation: int, count: int) -> Worker | None:
        """Start a worker; None where that cannot be, which is reported."""
        worker = self.table.add(index, generation, count)
        worker.since = time.monotonic()
        try:
            ours, theirs = messages.pair()
        except OSError as exc:
            self._not_started(worker, exc)
            return None
        link = Link(
            self.loop,
            ours,
            lambda message, found: self._heard(worker, message, found),
            lambda why: self._lost(worker, why),
        )
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
                worker.pid = spawn(self.commands[generation], self._environment, theirs)
            except OSError as exc:
                link.close()
                self._not_started(worker, exc)
                return None
        self.links[worker.id] = link
        return worker

    def _not_started(self, worker: Worker, exc: OSError) -> None:
        executable = self.commands[worker.generation].executable
        self.log.error(f"worker {worker.index}: cannot start {executable}: {exc.strerror or exc}")
        self.table.remove(worker)

    # ---- what workers say

    def _heard(self, worker: Worker, message: Mapping[str, object], found: list[int]) -> None:
        close_all(found)  # nothing that a worker says comes with descriptors
        kind = message["kind"]
        if kind == "hello":
            self._hello(worker, message)
        elif kind == "listen":
            self._listen(worker, message)
        elif kind == "release":
            last = listeners.release(self.table, worker, message)
            if "id" in message:
                self.say(worker, {"kind": "released", "id": message["id"], "last": last})
        elif kind == "prepared":
            worker.phase = Phase.PREPARED
            self._prepared(worker)
        elif kind == "reloaded":
            self._reloaded(worker)
        # Anything else is of a newer version, and for whoever understands it.

    def say(self, worker: Worker, message: Mapping[str, object]) -> None:
        """Say something to a worker that may have ended."""
        link = self.links.get(worker.id)
        if link is not None:
            link.say(message)

    def _lost(self, worker: Worker, why: str) -> None:
        # Its end, if it is that, comes as SIGCHLD.
        if why and not self.stopping:
            self.log.warning(f"{worker} cannot be talked to any more: {why}")

    def _hello(self, worker: Worker, message: Mapping[str, object]) -> None:
        if number(message, "v") != messages.VERSION:
            raise ValueError("it speaks another version")
        self.log.become(text(message, "log_format", "auto"), text(message, "log_level", "info"))
        worker.said_hello = True
        wanted = min(max(number(message, "workers"), 1), MOST_WORKERS)
        if worker.count:
            return
        # The first of a generation says how many there are to be.
        worker.count = wanted
        if self.stopping:
            self._drain(worker)
            return
        for index in range(1, wanted):
            self.start(index, worker.generation, wanted)

    def _listen(self, worker: Worker, message: Mapping[str, object]) -> None:
        number_ = number(message, "id")
        if self.stopping:
            self.say(worker, {"kind": "refused", "id": number_, "why": "the proxy is ending"})
            return
        try:
            found = listeners.give(self.table, worker, message)
        except CannotListen as exc:
            self.say(worker, {"kind": "refused", "id": number_, "why": str(exc)})
            return
        link = self.links.get(worker.id)
        if link is not None:
            descriptors = [sock.fileno() for sock in found[: messages.MOST_DESCRIPTORS]]
            link.say({"kind": "listening", "id": number_}, descriptors)

    def _prepared(self, worker: Worker) -> None:
        generation = worker.generation
        if self.stopping:
            self._drain(worker)
        elif generation in self._begun:
            self._serve(worker)
        elif self.table.all_prepared(generation):
            # All of their sockets are open: from the first connection on, each has its share.
            self._begun.add(generation)
            for one in self.table.of(generation):
                self._serve(one, announce=generation == 1 and one.index == 0)
            self._ready()

    def _serve(self, worker: Worker, *, announce: bool = False) -> None:
        worker.phase = Phase.SERVING
        self.say(worker, {"kind": "start", "announce": announce})

    def _ready(self) -> None:
        listeners.close_unwanted(self.table)
        count = sum(1 for _ in self.table.serving())
        self._notifier.ready(
            f"{count} worker{'s' if count > 1 else ''} of generation {self.newest}"
        )

    def _reloaded(self, worker: Worker) -> None:
        self._reloading.discard(worker.id)
        if not self._reloading and not self.stopping:
            self._ready()

    # ---- signals

    def _signalled(self, received: int) -> None:
        if received == signal.SIGCHLD:
            self._reap()
        elif received == signal.SIGHUP:
            self._reload()
        elif received == signal.SIGUSR2:
            self.log.warning("SIGUSR2: upgrades are not possible yet")
        else:
            self._stop(signal.Signals(received).name)

    def _reload(self) -> None:
        workers = list(self.table.workers.values() if self.stopping else self.table.serving())
        if not self.stopping and workers:
            self._notifier.reloading()
        for worker in workers:
            self.say(worker, {"kind": "reload", "signal": "SIGHUP"})
            if not self.stopping:
                self._reloading.add(worker.id)

    def _stop(self, name: str) -> None:
        again = bool(self.stopping)
        self.stopping = name
        for timer in self._restarts.values():
            timer.cancel()
        self._restarts.clear()
        if not again:
            self._notifier.stopping()
            # First here, then there: whoever connects from now on is refused, who has connected is served.
            listeners.close_all(self.table)
        for worker in list(self.table.workers.values()):
            if again:
                self._cut(worker)
            else:
                self._drain(worker)
        if not self.table.workers:
            self.loop.stop()

    def _drain(self, worker: Worker) -> None:
        worker.phase = Phase.LEAVING
        if worker.said_hello:
            self.say(worker, {"kind": "drain", "signal": self.stopping})
        else:
            self._kill(worker, signal.SIGTERM)  # nobody there to hear it otherwise

    def _cut(self, worker: Worker) -> None:
        if worker.said_hello:
            self.say(worker, {"kind": "cut", "signal": self.stopping})
        else:
            self._kill(worker, signal.SIGKILL)

    def _kill(self, worker: Worker, which: int) -> None:
        try:
            os.kill(worker.pid, which)
        except ProcessLookupError:
            return

    # ---- ends

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            worker = self.table.of_pid(pid)
            if worker is not None:  # as pid 1 of a container we get others, too
                self._ended(worker, os.waitstatus_to_exitcode(status))

    def _ended(self, worker: Worker, code: int) -> None:
        link = self.links.pop(worker.id, None)
        if link is not None:
            link.finish()
        self.table.remove(worker)
        if worker.id in self._reloading:
            self._reloaded(worker)
        code = 128 - code if code < 0 else code
        if self.stopping:
            if self.stopping != _FAILED:
                self._code = max(self._code, code)
            if not self.table.workers:
                self.loop.stop()
        elif worker.generation not in self._begun:
            self._never_began(code)
        elif worker.phase is Phase.LEAVING:
            self.log.info(f"{worker} has ended")
        else:
            self._again(worker, code)

    def _never_began(self, code: int) -> None:
        # It has said why. What the others would say is the same, or of no use to anybody.
        self.stopping = _FAILED
        self._code = code
        for other in list(self.table.workers.values()):
            self._kill(other, signal.SIGKILL)
        listeners.close_all(self.table)
        if not self.table.workers:
            self.loop.stop()

    def _again(self, worker: Worker, code: int) -> None:
        backoff = self._backoffs.setdefault(worker.index, Backoff())
        seconds = backoff.next(time.monotonic() - worker.since)
        how = f"by {signal.Signals(code - 128).name}" if code > 128 else f"with exit code {code}"
        self.log.error(
            f"{worker} has ended unexpectedly, {how}; it is started again"
            + (f" in {seconds:g} s" if seconds else "")
        )
        self._restart_after(seconds, worker.index, worker.generation, worker.count)

    def _restart_after(self, seconds: float, index: int, generation: int, count: int) -> None:
        def restart() -> None:
            del self._restarts[index]
            if self.start(index, generation, count) is None:
                later = self._backoffs[index].next(0.0)
                self._restart_after(later, index, generation, count)

        self._restarts[index] = self.loop.after(seconds, restart)
