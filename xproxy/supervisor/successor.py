"""``xproxy run --takeover``: the supervisor of a new process, which gets everything from the one that runs.

Until that is so, this is the hand of the other one: it starts workers when that one says, with the ends of sockets
that come with it. Then it is the supervisor, of its own workers and of the former ones until they have ended.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any, Final

from xproxy.supervisor import control_path, memory, messages
from xproxy.supervisor.control import is_ours, listen
from xproxy.supervisor.link import Link
from xproxy.supervisor.loop import Loop
from xproxy.supervisor.messages import number, text
from xproxy.supervisor.renewal import SIGNALS, Renewed
from xproxy.supervisor.resuming import Kept
from xproxy.supervisor.spawn import spawn
from xproxy.supervisor.state import resume
from xproxy.supervisor.supervisor import Supervisor
from xproxy.supervisor.systemd import Given
from xproxy.supervisor.table import Command

_LISTENING: Final = 1 << 30
"""In the place of the number of a descriptor: a control socket of our own."""


class CannotTakeOver(Exception):
    """There is nobody, or that one does not agree; says why."""


def path_of(arguments: Sequence[str]) -> str:
    """Return the control socket of the one that runs. Raises CannotTakeOver."""
    for n, word in enumerate(arguments):
        if word == "--control" and n + 1 < len(arguments):
            return os.path.abspath(arguments[n + 1])
        if word.startswith("--control="):
            return os.path.abspath(word.partition("=")[2])
    found = control_path.find(os.environ, os.geteuid())
    alive = {pid: path for pid, path in found.items() if os.path.exists(f"/proc/{pid}")}
    if len(alive) != 1:
        names = ", ".join(map(str, sorted(alive))) or "none"
        raise CannotTakeOver(f"which proxy is to be taken over? --control; there are {names}")
    return next(iter(alive.values()))


class Successor:
    """Of one running supervisor."""

    def __init__(self, command: Command, environment: dict[str, str], given: Given) -> None:
        """``command``: how workers are started here. ``environment``: what they have."""
        self._command = command
        self._environment = environment
        self._given = given
        self._loop = Loop()
        self._link: Link | None = None
        self._pids: dict[int, int] = {}
        """By the worker's id there."""
        self._former_pid = 0
        self._data = b""
        self._kept = Received()
        self._supervisor: Supervisor | None = None
        self._why = ""
        self._is_done = False
        self._goes_on = False

    def run(self, arguments: Sequence[str]) -> int:
        """Take over, then supervise; returns the exit code. ``arguments`` name the control socket."""
        self._loop.signals(SIGNALS, self._signalled)
        try:
            self._link = Link(self._loop, _connect(path_of(arguments)), self._heard, self._lost)
            self._link.say({"kind": "status"})
            self._loop.run()
        except CannotTakeOver as exc:
            self._why = str(exc)
        finally:
            # Those that come are the supervisor's, if there is one.
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            if self._link is not None:
                self._link.close()
            self._loop.close()
        if self._supervisor is not None and self._goes_on:
            self._kept.close_on_exec()
            return self._supervisor.run(Renewed("renewed"))
        return self._give_up()

    def _give_up(self) -> int:
        if self._supervisor is not None:
            self._supervisor.let_go()
        sys.stderr.write(f"Error: {self._why or 'the running supervisor has ended'}\n")
        for which in SIGNALS:
            signal.signal(which, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        codes = []
        for pid in self._pids.values():
            # One that serves has the other supervisor, and is still our child.
            _, status = os.waitpid(pid, 0)
            codes.append(os.waitstatus_to_exitcode(status))
        return 2 if 2 in codes else 1

    # ---- what happens

    def _signalled(self, received: int) -> None:
        if received in (signal.SIGTERM, signal.SIGINT) and self._link is not None:
            self._link.say({"kind": "abort"})

    def _lost(self, why: str) -> None:
        self._why = why or "the running supervisor has ended"
        self._loop.stop()

    def _heard(self, message: dict[str, object], found: list[int]) -> None:
        kind = message["kind"]
        if kind == "start" and found:
            self._start(number(message, "worker"), found)
        elif kind == "kill":
            pid = self._pids.get(number(message, "worker"))
            if pid is not None:
                os.kill(pid, number(message, "signal"))
        elif kind == "state" and len(found) == 1:
            self._data = memory.get(found[0])
        elif kind == "descriptors":
            self._kept.add(message.get("numbers"), found)
            return
        elif kind == "resume":
            self._resume()
        elif kind == "status":
            self._former_pid = number(message, "pid")
            self._ask()
        elif kind == "done":
            self._done(message)
        messages.close_all(found)

    def _ask(self) -> None:
        assert self._link is not None
        versions = {"v": messages.VERSION, "state": messages.STATE_VERSION}
        self._link.say({"kind": "takeover", **versions})

    def _start(self, worker: int, found: Sequence[int]) -> None:
        assert self._link is not None
        ends = [socket.socket(fileno=os.dup(one)) for one in found[:2]]
        try:
            self._pids[worker] = spawn(self._command, self._environment, *ends)
        except OSError as exc:
            raise ValueError(f"cannot start {self._command.executable}: {exc.strerror}") from exc
        finally:
            for end in ends:
                end.close()
        self._link.say({"kind": "started", "worker": worker, "pid": self._pids[worker]})

    def _resume(self) -> None:
        assert self._link is not None
        try:
            self._supervisor = resume(self._ours(json.loads(self._data)), self._kept)
        except (OSError, KeyError, TypeError) as exc:
            raise ValueError(f"what came cannot be gone on from: {exc!r}") from exc
        self._link.say({"kind": "resumed"})

    def _done(self, message: dict[str, object]) -> None:
        if self._is_done:
            return  # and what was aborted comes with two
        self._is_done = True
        self._why = text(message, "why", "") or text(message, "supervisor_why", "")
        self._goes_on = message.get("supervisor") == "renewed"
        self._loop.stop()

    # ---- what is ours and not the former one's

    def _ours(self, state: dict[str, Any]) -> bytes:  # Any: JSON
        """Return the state as it is here: another process, perhaps with other names for processes and files."""
        command = {
            "executable": self._command.executable,
            "arguments": self._command.arguments,
            "environment": dict(self._command.environment),
            "absent": self._command.absent,
        }
        state["command"] = state["next_command"] = command
        state["commands"] = [{"generation": state["newest"], **command}]
        state["environment"] = self._environment
        state["notify"], state["watchdog"] = self._given.notify, self._given.watchdog
        for worker in state["workers"]:
            pid = self._pids.get(worker["id"])
            worker["foreign"] = pid is None
            if pid is not None:
                worker["pid"] = pid
        state.pop("finishing", None)
        control = state.get("control")
        if control is not None:
            control["clients"] = []
            if control["path"].endswith(f"/{self._former_pid}.sock"):
                self._listen(control)
        return json.dumps(state).encode()

    def _listen(self, control: dict[str, Any]) -> None:  # Any: JSON
        # Found by pid, which is another one now.
        try:
            path = control_path.place_for(os.getpid(), os.environ, os.geteuid())
            self._kept.add([_LISTENING], [listen(path).detach()])
        except (OSError, control_path.NoPlace):
            return  # it can be asked where it was
        os.unlink(control["path"])
        control["path"], control["socket"] = path, _LISTENING


class Received(Kept):
    """Descriptors that have come from another process, where they had other numbers."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers: dict[int, int] = {}

    def add(self, numbers: object, found: Sequence[int]) -> None:
        """Note some. Raises ValueError; then they are closed."""
        if not isinstance(numbers, list) or len(numbers) != len(found):
            messages.close_all(found)
            raise ValueError("descriptors have not come as they were said to")
        self._numbers.update(zip(numbers, found, strict=True))

    def socket(self, descriptor: int) -> socket.socket:
        """See Take."""
        return super().socket(self._numbers.pop(descriptor, -1))

    def descriptor(self, descriptor: int) -> int:
        """See Take."""
        return super().descriptor(self._numbers.pop(descriptor, -1))

    def close_on_exec(self) -> None:
        """Keep them from whoever we start, and close those that nobody wants."""
        super().close_on_exec()
        messages.close_all(list(self._numbers.values()))
        self._numbers.clear()


def _connect(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.connect(path)
    except OSError as exc:
        sock.close()
        raise CannotTakeOver(f"no proxy answers at {path}: {exc.strerror or exc}") from exc
    if not is_ours(sock):
        sock.close()
        raise CannotTakeOver(f"the proxy at {path} is another user's")
    sock.setblocking(False)
    return sock
