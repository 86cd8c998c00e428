"""Starting programs on a chosen CPU, waiting until they answer, and ending them whatever happens."""

from __future__ import annotations

import http.client
import itertools
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from bench import procfs

START_SECONDS = 30.0
"""A program that does not accept connections so long after its start has failed."""
_ATTEMPT_SECONDS = 0.02
_STOP_SECONDS = 2.0
_numbers = itertools.count()
# Below the range from which Linux takes the ports of outgoing connections (32768 and up): thousands
# of those are open here, and one of them could take a port between our choice and the program's bind.
_ports = itertools.count(20_000 + os.getpid() % 4_000)

Argv = Sequence[str | Path]
"""A command line."""


class Failed(Exception):
    """A program of the bench did not do what it should; the message ends with the last of its log."""


@attrs.define(eq=False)
class Process:
    """A running program and all it started."""

    name: str
    popen: subprocess.Popen[str]
    log: Path
    """Its standard error."""

    @property
    def cpu_seconds(self) -> float:
        """User and system time of the tree so far."""
        return procfs.tree_cpu_seconds(self.popen.pid)

    @property
    def rss_kib(self) -> int:
        return procfs.tree_rss_kib(self.popen.pid)

    def failed(self, what: str) -> Failed:
        """Return the error that says what this program did wrong, with the end of its log."""
        tail = self.log.read_text(errors="replace").strip()[-600:]
        return Failed(f"{self.name} {what}{': ' + tail if tail else ''}")


def free_port() -> int:
    """Return a TCP port nobody listens on at the moment, each time another one."""
    for port in _ports:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("itertools.count ended")


@contextmanager
def pinned(cpu: int | None) -> Iterator[None]:
    """Keep this process, and what it starts meanwhile, on one CPU; None: wherever it may be."""
    if cpu is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def running(
    argv: Argv,
    *,
    name: str,
    cpu: int | None,
    work: Path,
    port: int | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[Process]:
    """Run a program on ``cpu`` in a process group of its own; leaving ends all of the group.

    Args:
        port: wait until it accepts connections there.

    Raises:
        Failed: it ended, or 30 s passed, before it accepted a connection.
    """
    log = work / f"{next(_numbers):03}-{name}.log"
    with log.open("w") as stderr, pinned(cpu):
        popen = subprocess.Popen(
            [str(arg) for arg in argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if port is None else stderr,
            stderr=stderr,
            text=True,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=True,
        )
    process = Process(name, popen, log)
    try:
        if port is not None:
            _await_listening(process, port)
        yield process
    finally:
        _stop(popen)


def _await_listening(process: Process, port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1.0):
                return
        except OSError as exc:
            refused = exc
        try:
            code = process.popen.wait(_ATTEMPT_SECONDS)
        except subprocess.TimeoutExpired:
            if time.monotonic() > deadline:
                raise process.failed(
                    f"does not listen on port {port} after {START_SECONDS:g} s ({refused})"
                ) from refused
        else:
            raise process.failed(f"ended with exit code {code} before it listened")


def _stop(popen: subprocess.Popen[str]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(popen.pid, number)
        except ProcessLookupError:
            break
        try:
            popen.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    popen.wait()
    # The leader may be gone and a child of it not.
    try:
        os.killpg(popen.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    if popen.stdout is not None:
        popen.stdout.close()


def fetch(port: int, path: str = "/") -> bytes:
    """Return the body of one HTTP/1.1 GET.

    Raises:
        Failed: no answer within 5 s, or another status than 200.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as exc:
        raise Failed(f"no answer to a GET on port {port}: {exc!r}") from exc
    finally:
        connection.close()
    if answer.status != 200:
        raise Failed(f"status {answer.status} to a GET on port {port}")
    return body
