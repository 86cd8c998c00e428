"""Processes that take over from one another, as tests see them."""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Final

import attrs

from tests.process import worker
from tests.process.forked import Forked, fork
from tests.process.product import PATIENCE
from xproxy.migration import faults
from xproxy.registry import GROUPS, default_registry

_PROGRAM: Final = Path(__file__).with_name("worker.py")


@attrs.define(eq=False)
class Worker:
    """One of them."""

    process: subprocess.Popen[str] | Forked
    log: Path
    said: list[dict[str, object]] = attrs.field(factory=list)
    _lines: queue.Queue[str | None] = attrs.field(factory=queue.Queue)
    _reader: threading.Thread | None = None

    def start(self) -> None:
        """Begin to listen to what it says."""

        def read() -> None:
            assert self.process.stdout is not None
            for line in self.process.stdout:
                self._lines.put(line)
            self._lines.put(None)

        self._reader = threading.Thread(target=read)
        self._reader.start()

    def wait_for(self, *events: str, within: float = PATIENCE) -> dict[str, object]:
        """Return the next report of such an event."""
        end = time.monotonic() + within
        while True:
            line = self._lines.get(timeout=max(end - time.monotonic(), 0.01))
            assert line is not None, (
                f"it has ended, and said no {events}: {self.log.read_text()[-3000:]}"
            )
            said = json.loads(line)
            self.said.append(said)
            if said["step"] in events:
                return dict(said)

    def give(self) -> None:
        """Let it give all that it has to whom it is connected to."""
        assert self.process.stdin is not None
        self.process.stdin.write("give\n")
        self.process.stdin.flush()

    def ended(self, within: float = PATIENCE) -> int:
        """Wait until it has; return its exit code."""
        return self.process.wait(within)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        if self._reader is not None:
            self._reader.join(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()


@attrs.define(eq=False)
class Workers:
    """Generations of one proxy; their listening sockets are this process's, too."""

    work: Path
    file: Path
    listening: dict[str, socket.socket]
    """By address."""
    _stack: ExitStack
    forks: bool = False
    """They are forks of the process that runs the tests, which has all modules loaded: quicker by a second each."""
    _next: socket.socket | None = None
    """The end of the channel that whoever comes next takes by."""
    count: int = 0

    @property
    def port(self) -> int:
        port: int = next(iter(self.listening.values())).getsockname()[1]
        return port

    def start(self, *options: str, fault: str = "", file: Path | None = None) -> Worker:
        """Start the next one, which takes over from the last if that is told to give."""
        given, taken = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        before, self._next = self._next, taken
        passed = [given.fileno(), *(sock.fileno() for sock in self.listening.values())]
        arguments = [str(file or self.file), *options]
        for address, sock in self.listening.items():
            arguments += ["--listen", f"{address}={sock.fileno()}"]
        arguments += ["--give", str(given.fileno())]
        if before is not None:
            arguments += ["--take", str(before.fileno())]
            passed.append(before.fileno())
        self.count += 1
        log = self.work / f"worker-{self.count}.log"
        environment = {**os.environ, **({"XPROXY_FAULT_POINT": fault} if fault else {})}
        process: subprocess.Popen[str] | Forked
        with log.open("w") as errors:
            if self.forks:
                process = fork(partial(_work, arguments, fault), passed, errors.fileno())
            else:
                process = subprocess.Popen(
                    [sys.executable, str(_PROGRAM), *arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    env=environment,
                    pass_fds=passed,
                )
        given.close()
        if before is not None:
            before.close()
        worker = Worker(process, log)
        self._stack.callback(worker.close)
        worker.start()
        worker.wait_for("ready")
        return worker

    def close(self) -> None:
        if self._next is not None:
            self._next.close()


@cache
def _load() -> None:
    # Here, so that no fork has to.
    registry = default_registry()
    registry.codecs()
    for group in GROUPS:
        for name in registry.names(group):
            registry.load(group, name)


def _work(arguments: list[str], fault: str) -> None:
    # In a process of its own, which has read its environment long ago.
    faults.STEP, _, faults.WHAT = fault.partition(":")
    worker.run(arguments)


@contextmanager
def workers(
    text: str, work: Path, addresses: Sequence[str] = ("127.0.0.1:0",), *, forks: bool = False
) -> Iterator[Workers]:
    """Make room for generations of a proxy. ``{0}``, ``{1}`` … in ``text`` are the listeners' addresses.

    ``forks``: see ``Workers.forks``.
    """
    with ExitStack() as stack:
        listening: dict[str, socket.socket] = {}
        for address in addresses:
            host, _, port = address.rpartition(":")
            sock = stack.enter_context(socket.create_server((host, int(port)), backlog=1024))
            listening[f"{host}:{sock.getsockname()[1]}"] = sock
        if forks:
            _load()
        file = work / "workers.yaml"
        for number, address in enumerate(listening):
            text = text.replace(f"{{{number}}}", address)
        file.write_text(text)
        found = Workers(work, file, listening, stack, forks)
        stack.callback(found.close)
        yield found
