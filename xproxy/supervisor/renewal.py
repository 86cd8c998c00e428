"""The supervisor goes on in another program, as the same process: a child tries it first, then it is ``execve``.

The child is started like a worker, so a version that knows nothing of this takes itself for one, and ends. It gets a
copy of what the supervisor knows, and says which code it is. Where that is what runs already, nothing is executed:
there would be nothing new in it, and it is never without a risk.

Until ``execve`` whatever goes wrong changes nothing. A program that then cannot go on executes the former one
(`way_back`). Signals are blocked from before that until the next program takes them. Children, the pid, and what is
named in the state of descriptors stay by themselves.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, NamedTuple

from xproxy.supervisor import memory, messages
from xproxy.supervisor.identity import identity
from xproxy.supervisor.link import Link
from xproxy.supervisor.log import Log
from xproxy.supervisor.loop import Loop, Timer
from xproxy.supervisor.messages import text
from xproxy.supervisor.spawn import spawn
from xproxy.supervisor.table import Command

SIGNALS: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGUSR2,
    signal.SIGCHLD,
)
"""What a supervisor hears; none is lost while it goes on in another program."""
TRY_SECONDS: Final = 30.0
"""The child that tries it has so long."""
_MOST_WHY: Final = 1000
"""Characters of the reason that it gives."""


class Written(NamedTuple):
    """A supervisor as bytes, and what they cannot say."""

    data: bytes
    descriptors: list[int]
    """What is to stay open, and is named in ``data``."""


class Renewed(NamedTuple):
    """What came of it."""

    how: str
    """``renewed``; ``same``: there was nothing new in it; ``kept``: the former one goes on."""
    why: str = ""


class Renewal:
    """Of one supervisor, one at a time."""

    def __init__(
        self,
        loop: Loop,
        log: Log,
        environment: dict[str, str],
        write: Callable[[], Written],
        over: Callable[[Renewed], object],
        patience: float = TRY_SECONDS,
    ) -> None:
        """``write`` writes down what is to be known. ``over`` is called once for each ``begin``, by whoever we are.

        ``environment`` is what commands' own is added to; ``patience`` is in seconds.
        """
        self._loop = loop
        self._log = log
        self._environment = environment
        self._write = write
        self._over = over
        self._patience = patience
        self._identity = identity()
        self._command: Command | None = None
        """While one is under way: what we shall be."""
        self._link: Link | None = None
        self._pid = 0
        self._timer: Timer | None = None
        self._tried = ""
        """The identity that the child has said; empty: it has not, or cannot tell."""
        self._could = False
        self._why = ""

    def begin(self, command: Command) -> None:
        """Try whether this command could go on in our place; then let it."""
        assert self._command is None
        self._command = command
        self._tried, self._could, self._why = "", False, ""
        environment = {**self._environment, messages.RESUME: messages.TRY}
        try:
            with ExitStack() as stack:
                written = memory.put(self._write().data)
                stack.callback(os.close, written)
                ours, theirs = messages.pair()
                stack.enter_context(theirs)
                self._link = Link(self._loop, ours, self._heard, lambda _: None)
                self._link.say({"kind": "try", "v": messages.VERSION}, [written])
                self._pid = spawn(command, environment, theirs)
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "strerror", None) or exc
            self._keep(f"cannot start {command.executable}: {reason}")
            return
        self._timer = self._loop.after(self._patience, self._too_late)

    def close(self) -> None:
        """Give up what is under way. Idempotent."""
        if self._command is not None:
            self._keep("the proxy is ending")

    # ---- the child

    def _heard(self, message: dict[str, object], found: list[int]) -> None:
        messages.close_all(found)
        if message["kind"] == "tried":
            self._tried = text(message, "identity")
            self._could = True
        elif message["kind"] == "failed":
            self._why = text(message, "why")[:_MOST_WHY]

    def _too_late(self) -> None:
        self._keep(f"the new one was not done with its self-test within {self._patience:g} s")

    def ended(self, pid: int, code: int) -> None:
        """A process has ended; if it is the child, it has said what it had to say."""
        if pid != self._pid or self._command is None:
            return
        self._pid = 0
        if self._link is not None:
            self._link.finish()
        if self._why:
            self._keep(f"the new one could not: {self._why}")
        elif code or not self._could:
            self._keep(f"the new one has ended with exit code {code} in its self-test")
        elif self._tried and self._tried == self._identity:
            self._end(Renewed("same", "code and interpreter are those that run"))
        else:
            self._settle()
            # Whoever has called us may have more to do that is not written down yet.
            self._timer = self._loop.after(0.0, self._become)

    # ---- how it ends

    def _become(self) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            # Those that have come; what comes from now on waits in the kernel, also beyond execve.
            self._loop.take_signals()
            why = self._execute(self._command) if self._command is not None else ""
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if self._command is not None:
            self._keep(why)

    def _execute(self, command: Command) -> str:
        """Be that command. Returns, with the reason, only where that cannot be."""
        environment = command.environment_of(self._environment)
        kept: list[int] = []
        try:
            written = self._write()
            descriptor = memory.put(written.data)
            try:
                environment[messages.RESUME] = str(descriptor)
                for one in (descriptor, *written.descriptors):
                    os.set_inheritable(one, True)
                    kept.append(one)
                os.execve(command.executable, command.arguments, environment)  # noqa: S606  # no shell is wanted
            finally:
                for one in kept:
                    os.set_inheritable(one, False)
                os.close(descriptor)
        except (OSError, ValueError) as exc:
            return f"cannot execute {command.executable}: {getattr(exc, 'strerror', None) or exc}"

    def _settle(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._link is not None:
            self._link.close()
            self._link = None
        if self._pid:
            os.kill(
                self._pid, signal.SIGKILL
            )  # it is our child, and is there until we have asked how it ended
            self._pid = 0

    def _keep(self, why: str) -> None:
        self._end(Renewed("kept", why))

    def _end(self, renewed: Renewed) -> None:
        self._settle()
        self._command = None
        self._over(renewed)
