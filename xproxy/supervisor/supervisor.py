"""The supervisor: starts workers, gives them their sockets, passes signals on, and starts anew what has died.

It reads no configuration and no client's byte. What it knows is in its table, and is decided there without doing
anything; this is where it is done.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from typing import Final

from xproxy.supervisor import listeners, messages
from xproxy.supervisor.backoff import Backoff
from xproxy.supervisor.control import Client
from xproxy.supervisor.log import Log
from xproxy.supervisor.loop import Loop
from xproxy.supervisor.messages import number, text
from xproxy.supervisor.renewal import SIGNALS, Renewal, Renewed, Written
from xproxy.supervisor.sockets import CannotListen
from xproxy.supervisor.succession import Succession
from xproxy.supervisor.systemd import Given, Notifier
from xproxy.supervisor.table import MOST_WORKERS, Command, Phase, Worker
from xproxy.supervisor.upgrading import Upgrading
from xproxy.supervisor.workers import Workers

_MOST_WHY: Final = 4096
"""Characters of the reason that a worker gives for its end."""
_LEFT: Final = "another supervisor goes on"
"""What ends us then: nothing is ours any more but our children."""
_FAILED: Final = "the start has failed"
"""What ends us, where it is no signal."""


class Supervisor:
    """Of one proxy. ``run`` returns when the last worker has ended."""

    def __init__(
        self,
        command: Command,
        environment: dict[str, str],
        given: Given,
        write: Callable[[Supervisor], Written],
        log: Log | None = None,
    ) -> None:
        """``command``: how this program was started. ``write``: writes down what we know, for another program.

        ``environment``: what workers have, after ``given`` has taken what is meant for us alone.
        """
        self.loop: Final = Loop()
        self.workers: Final = Workers(self.loop, log or Log(), environment, self._heard, self._gone)
        self.command: Final = command
        self.given: Final = given
        self.backoffs: Final[dict[int, Backoff]] = {}
        """By index of the worker."""
        self.reloading: Final[set[int]] = set()
        """Workers that have not said yet how their reload went."""
        self.restarting: Final[dict[int, tuple[int, int]]] = {}
        """By index: generation and count of one that is about to be started again, if it still is."""
        self._notifier = Notifier(given.notify)
        self._code = 0
        self._renewal = Renewal(
            self.loop, self.workers.log, environment, lambda: write(self), self._renewed
        )
        self._write = write
        self.upgrading: Final = Upgrading(
            self.workers, self.ready, self._again, self._renew, self._succeeded_by
        )

    # ---- life

    def run(self, renewed: Renewed | None = None) -> int:
        """Serve until the last worker has ended; returns its exit code.

        ``renewed``: workers there are already, as what we know was written down by a former program of this process.
        """
        self.loop.signals(SIGNALS, self._signalled)
        try:
            if renewed is None:
                for wrong in listeners.take_given(self.workers.table, self.given.sockets):
                    self.workers.log.warning(wrong)
                self.workers.newest = 1
                self.workers.commands[1] = self.command
                if isinstance(self.workers.start(0, 1, 0), str):
                    return 1
            if self.given.watchdog:
                self._alive()
            if renewed is not None:
                self._go_on(renewed)
            self.loop.run()
        finally:
            self._renewal.close()
            self.upgrading.close()
            listeners.close_all(self.workers.table)
            for link in list(self.workers.links.values()):
                link.close()
            self.let_go()
        return self._code

    def let_go(self) -> None:
        """Close what is of this object alone, and nothing that another program may have or go on with."""
        self._notifier.close()
        self.loop.close()

    def _go_on(self, renewed: Renewed) -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        self.upgrading.go_on()
        self._renewed(renewed)
        # A child that has ended is there until somebody asks, whether its signal has come through or not.
        self._reap()

    def _alive(self) -> None:
        self._notifier.alive()
        self.loop.after(self.given.watchdog / 2, self._alive)

    def _renew(self, command: Command) -> None:
        elsewhere = self.workers.elsewhere
        if elsewhere is None or elsewhere[0] != self.workers.newest:
            self._renewal.begin(command)
            return
        for link in self.workers.links.values():
            link.pause()
        if self.upgrading.control is not None:
            self.upgrading.control.pause()
        elsewhere[1].give()

    def _succeeded_by(self, client: Client) -> Succession:
        return Succession(self.loop, client, lambda: self._write(self), self._succeeded)

    def _succeeded(self, renewed: Renewed) -> None:
        """Another supervisor has everything, or has not."""
        self.workers.elsewhere = None
        if renewed.how == "renewed":
            # From here on it is that one's: whoever asks for anything gets it there.
            self._leave()
        else:
            for link in list(self.workers.links.values()):
                link.go_on()
            if self.upgrading.control is not None:
                self.upgrading.control.go_on()
            self._renewed(renewed)

    def _leave(self) -> None:
        workers = self.workers
        workers.log.info("another supervisor goes on; this one ends with its last worker")
        self.upgrading.renewed("renewed")
        workers.stopping = _LEFT
        for slot in (*workers.table.slots.values(), *workers.table.waiting.values()):
            slot.socket.close()
        workers.table.slots.clear()
        workers.table.waiting.clear()
        self.upgrading.close(leave=True)
        for worker in list(workers.table.workers.values()):
            if worker.foreign:
                workers.links.pop(worker.id).close()
                workers.table.remove(worker)
        for index in list(workers.restarts):
            workers.cancel_restart(index)
        if not workers.table.workers:
            self.loop.stop()

    def _gone(self, worker: Worker) -> None:
        if worker.id in self.workers.table.workers:
            self._ended(worker, 0 if worker.phase is Phase.LEAVING else 1)

    def _renewed(self, renewed: Renewed) -> None:
        if renewed.how == "renewed":
            self.workers.log.info(f"the supervisor goes on in {self.command.executable}")
        elif renewed.how == "kept":
            self.workers.log.warning(f"the supervisor stays as it was: {renewed.why}")
        self.upgrading.renewed(renewed.how, renewed.why)

    # ---- what workers say

    def _heard(self, worker: Worker, message: Mapping[str, object]) -> None:
        kind = message["kind"]
        if kind == "hello":
            self._hello(worker, message)
        elif kind == "listen":
            self._listen(worker, message)
        elif kind == "release":
            last = listeners.release(self.workers.table, worker, message)
            if "id" in message:
                self.workers.say(worker, {"kind": "released", "id": message["id"], "last": last})
        elif kind == "prepared":
            worker.phase = Phase.PREPARED
            self._prepared(worker)
        elif kind == "reloaded":
            self._reloaded(worker)
        elif kind == "report":
            self.upgrading.reported(worker, message)
        elif kind == "failed":
            worker.why = text(message, "why", "")[:_MOST_WHY]
        # Anything else is of a newer version, and for whoever understands it.

    def _hello(self, worker: Worker, message: Mapping[str, object]) -> None:
        if number(message, "v") != messages.VERSION:
            raise ValueError("it speaks another version")
        self.workers.log.become(
            text(message, "log_format", "auto"), text(message, "log_level", "info")
        )
        worker.said_hello = True
        if worker.generation == 1 and not self.upgrading.open(text(message, "control", "")):
            self._never_began(1)
            return
        self.upgrading.most_generations = max(number(message, "generations", 4), 1)
        wanted = min(max(number(message, "workers"), 1), MOST_WORKERS)
        if worker.count:
            return
        # The first of a generation says how many there are to be.
        worker.count = wanted
        if self.workers.stopping:
            self.workers.drain(worker)
            return
        if worker.generation in self.workers.has_begun or self.upgrading.has(worker):
            return  # the others come in turn
        for index in range(1, wanted):
            self.workers.start(index, worker.generation, wanted)

    def _listen(self, worker: Worker, message: Mapping[str, object]) -> None:
        number_ = number(message, "id")
        if self.workers.stopping:
            self.workers.say(
                worker, {"kind": "refused", "id": number_, "why": "the proxy is ending"}
            )
            return
        try:
            found = listeners.give(self.workers.table, worker, message)
        except CannotListen as exc:
            self.workers.say(worker, {"kind": "refused", "id": number_, "why": str(exc)})
            return
        link = self.workers.links.get(worker.id)
        if link is not None:
            descriptors = [sock.fileno() for sock in found[: messages.MOST_DESCRIPTORS]]
            link.say({"kind": "listening", "id": number_}, descriptors)

    def _prepared(self, worker: Worker) -> None:
        generation = worker.generation
        if self.workers.stopping:
            self.workers.drain(worker)
        elif self.upgrading.has(worker):
            self.upgrading.prepared(worker)
        elif generation in self.workers.has_begun:
            self.workers.serve(worker)
            self.upgrading.succeed(worker)
            self.tidy()
        elif self.workers.table.all_prepared(generation):
            # All of their sockets are open: from the first connection on, each has its share.
            self.workers.begun(generation)
            for one in self.workers.table.of(generation):
                self.workers.serve(one, announce=generation == 1 and one.index == 0)
            self.ready()

    def tidy(self) -> None:
        """Close sockets that no worker wants, unless one is about to come that may."""
        settled = all(
            one.phase in (Phase.SERVING, Phase.LEAVING)
            for one in self.workers.table.workers.values()
        )
        if settled and not self.workers.restarts:
            listeners.close_unwanted(self.workers.table)

    def ready(self) -> None:
        """Tell the service manager."""
        self.tidy()
        count = sum(1 for _ in self.workers.table.serving())
        self._notifier.ready(
            f"{count} worker{'s' if count > 1 else ''} of generation {self.workers.newest}"
        )

    def _reloaded(self, worker: Worker) -> None:
        self.reloading.discard(worker.id)
        if not self.reloading and not self.workers.stopping:
            self.ready()

    # ---- signals

    def _signalled(self, received: int) -> None:
        if received == signal.SIGCHLD:
            self._reap()
        elif received == signal.SIGHUP:
            self._reload()
        elif received == signal.SIGUSR2:
            self.upgrading.again("SIGUSR2")
        else:
            self._stop(signal.Signals(received).name)

    def _reload(self) -> None:
        workers = list(
            self.workers.table.workers.values()
            if self.workers.stopping
            else self.workers.table.serving()
        )
        if not self.workers.stopping and workers:
            self._notifier.reloading()
        for worker in workers:
            self.workers.say(worker, {"kind": "reload", "signal": "SIGHUP"})
            if not self.workers.stopping:
                self.reloading.add(worker.id)

    def _stop(self, name: str) -> None:
        again = self.workers.stopping not in ("", _LEFT)
        self.workers.stopping = name
        self._renewal.close()
        for index in list(self.workers.restarts):
            self.workers.cancel_restart(index)
        if not again:
            self._notifier.stopping()
            # First here, then there: whoever connects from now on is refused, who has connected is served.
            listeners.close_all(self.workers.table)
        for worker in list(self.workers.table.workers.values()):
            if again:
                self.workers.cut(worker)
            else:
                self.workers.drain(worker)
        if not self.workers.table.workers:
            self.loop.stop()

    # ---- ends

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            worker = self.workers.table.of_pid(pid)
            code = os.waitstatus_to_exitcode(status)
            if worker is not None:
                self._ended(worker, code)
            else:
                self._renewal.ended(
                    pid, code
                )  # or it is none of ours: as pid 1 of a container we get others, too

    def _ended(self, worker: Worker, code: int) -> None:
        self.workers.ended(worker)
        if worker.id in self.reloading:
            self._reloaded(worker)
        code = 128 - code if code < 0 else code
        if self.workers.stopping:
            # One of an upgrade that did not come to its end says nothing about the proxy; nor does one that was about
            # to follow another there, or to be there again.
            begun = self.workers.has_begun
            counts = worker.generation in begun and not worker.unused
            if self.workers.stopping != _FAILED and (not begun or counts):
                self._code = max(self._code, code)
            if not self.workers.table.workers:
                self.loop.stop()
        elif self.upgrading.ended(worker, code):
            self.tidy()
        elif worker.phase is Phase.LEAVING:
            self.workers.log.info(f"{worker} has ended")
            self.tidy()
        elif not self.workers.has_begun:
            self._never_began(code)
        else:
            self._again(worker, code)

    def _never_began(self, code: int) -> None:
        # It has said why. What the others would say is the same, or of no use to anybody.
        self.workers.stopping = _FAILED
        self._code = code
        for other in list(self.workers.table.workers.values()):
            self.workers.kill(other, signal.SIGKILL)
        listeners.close_all(self.workers.table)
        if not self.workers.table.workers:
            self.loop.stop()

    def _again(self, worker: Worker, code: int) -> None:
        seconds = self.backoff(worker.index).next(time.monotonic() - worker.since)
        how = f"by {signal.Signals(code - 128).name}" if code > 128 else f"with exit code {code}"
        self.workers.log.error(
            f"{worker} has ended unexpectedly, {how}; it is started again"
            + (f" in {seconds:g} s" if seconds else "")
        )
        self.restart_after(seconds, worker.index, worker.generation, worker.count)

    def backoff(self, index: int) -> Backoff:
        """Return how long those of an index wait, whichever worker it is."""
        return self.backoffs.setdefault(index, Backoff())

    def restart_after(self, seconds: float, index: int, generation: int, count: int) -> None:
        """Start a worker there when that time has passed, and again until it can be."""

        def restart() -> None:
            del self.workers.restarts[index]
            if isinstance(self.workers.start(index, generation, count), str):
                self.restart_after(self.backoff(index).next(0.0), index, generation, count)

        self.restarting[index] = generation, count
        self.workers.restarts[index] = self.loop.after(seconds, restart)
