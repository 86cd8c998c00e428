"""A process that is a fork of this one: it has loaded what this one has, and begins at once.

What another thread of this process held then stays held in the fork: what runs there opens its own files and
streams, and touches none of the tests.
"""

from __future__ import annotations

import gc
import io
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection
from typing import Final

import attrs

_LOOK: Final = 0.01


@attrs.define(eq=False)
class Forked:
    """One, with what of ``subprocess.Popen`` tests use."""

    pid: int
    stdin: io.TextIOWrapper
    stdout: io.TextIOWrapper
    returncode: int | None = None
    """As there: below 0 the signal that ended it. None: it has not ended, as far as is known."""
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False)

    def poll(self) -> int | None:
        """Look whether it has ended."""
        with (
            self._lock
        ):  # who has waited for it once cannot do so again, and another thread may look, too
            if self.returncode is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Wait until it has. Raises TimeoutExpired after so many seconds."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("a fork", timeout)
            time.sleep(_LOOK)
        return code

    def kill(self) -> None:
        """Let it end at once."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def communicate(self) -> None:
        """Wait until it has ended. What it has said is whose who reads it."""
        self.wait(60)
        self.stdin.close()


def fork(run: Callable[[], None], keep: Collection[int], errors: int) -> Forked:
    """Do ``run`` in a fork. It has the descriptors ``keep``, pipes for standard input and output, and ``errors``."""
    commands, words = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        _become(run, {*keep}, commands[0], words[1], errors)
    os.close(commands[0])
    os.close(words[1])
    return Forked(pid, os.fdopen(commands[1], "w"), os.fdopen(words[0]))


def _become(
    run: Callable[[], None], keep: set[int], commands: int, words: int, errors: int
) -> None:
    # Never returns, so that nothing of the tests is cleaned up here.
    code = 1
    try:
        gc.freeze()  # nor is it by the collector: descriptors are others' from here on
        for number, descriptor in enumerate((commands, words, errors)):
            os.dup2(descriptor, number)
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) not in keep:
                try:
                    os.close(int(name))
                except OSError:
                    continue  # the listing's own
        for descriptor in keep:
            os.set_inheritable(descriptor, True)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115  # they stay
        logging.root.handlers.clear()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        run()
        code = 0
    except BaseException:
        traceback.print_exc(file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
