"""The product as a process: ``python -m xproxy run`` on a file, with what a person would use to look at it."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs

ROOT: Final = Path(__file__).parents[2]
PATIENCE: Final = 60.0
"""Seconds that any single step may take, on a machine busy with other work; what passes never waits so long."""
LOAD_SECONDS: Final = float(os.environ.get("XPROXY_LOAD_SECONDS", "2"))
"""How long a load lasts; ``make soak`` asks for more."""
_LOOK: Final = 0.01


def eventually(holds: Callable[[], bool], what: str, within: float = PATIENCE) -> None:
    """Wait until ``holds``; fail with ``what`` otherwise."""
    deadline = time.monotonic() + within
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what}")
        time.sleep(_LOOK)


# Below the range from which Linux takes the ports of outgoing connections (32768 and up): one of those could take a
# port between our choice and the program's bind. Another range for each process that runs tests.
_ports: Final = itertools.count(10_000 + os.getpid() % 500 * 40)


_held: Final[list[socket.socket]] = []
"""Until the test that asked for them ends: what refuses, and claims of ports."""


def unused_port() -> int:
    """Return a port that nobody listens on yet, to be bound soon; no other test gets it before this one has ended."""
    for port in _ports:
        # Other processes run tests at the same time: the name says to them that the port is about to be bound.
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0xproxy-tests-port-{port}")
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        _held.append(claim)
        return port
    raise AssertionError("itertools.count ended")


def refusing_port() -> int:
    """Return a port that refuses connections, and that nobody else can take until the test ends."""
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    _held.append(holder)
    port = holder.getsockname()[1]
    assert isinstance(port, int)
    return port


def release_ports() -> None:
    """Close what ``refusing_port`` and ``unused_port`` hold."""
    while _held:
        _held.pop().close()


def read_to_reset(client: socket.socket) -> bool:
    """Read until the end; say whether that was a reset, and not a clean end."""
    client.settimeout(PATIENCE)
    try:
        while client.recv(1 << 20):
            pass
    except ConnectionResetError:
        return True
    return False


def resident_bytes(pid: int) -> int:
    """Return the memory that a process holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def workers_of(supervisor: int) -> list[int]:
    """Return the processes that serve, in the order of their start."""
    return [
        int(pid)
        for pid in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    ]


def kill_all(process: subprocess.Popen[Any]) -> None:  # Any: of text or of bytes
    """End a process that was started in a session of its own, and all that it has started; whatever it does."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@attrs.define(eq=False)
class Product:
    """A running proxy."""

    process: subprocess.Popen[str]
    config: Path
    ports: dict[str, int]
    """By listener."""
    log: Path
    """Its standard error."""
    admin: int

    @property
    def worker(self) -> int:
        """The process that serves: of several the one that was started first."""
        return workers_of(self.process.pid)[0]

    @property
    def port(self) -> int:
        """The port of the listener ``edge``."""
        return self.ports["edge"]

    @property
    def resident(self) -> int:
        return resident_bytes(self.worker)

    def work(self) -> float:
        """Return the processor time of its process so far, in seconds.

        A clock for tests: what passes on it between a request and its answer is what the proxy did meanwhile, for
        whomever, however busy the machine is with other work.
        """
        # CPUCLOCK_SCHED of a process, as clock_getcpuclockid(3) makes it, which Python does not have.
        return time.clock_gettime(~self.worker << 3 | 2)

    @property
    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.worker}/fd"))

    def page(self, path: str) -> str:
        """Return a page of the admin interface."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=PATIENCE)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def stats(self) -> dict[str, int]:
        """Return all counters and gauges."""
        lines = (line.rpartition(": ") for line in self.page("/stats").splitlines())
        return {name: int(value) for name, _, value in lines if value.isdigit()}

    def stat(self, name: str) -> int:
        """Return one of them; what was never counted is 0."""
        return self.stats().get(name, 0)

    def leaks(self) -> list[str]:
        """Name the gauges that say that something is held; clients must have left."""
        found = []
        for name, value in self.stats().items():
            held = ("_rq_active", "_pending_active", "_retry_active", "downstream_cx_active")
            if value and name.endswith(held) and not name.startswith("listener.(admin)"):
                found.append(f"{name} is {value}")
        return found

    def settled(self) -> None:
        """Wait until nothing is held."""
        try:
            eventually(lambda: not self.leaks(), "")
        except AssertionError:
            raise AssertionError("; ".join(self.leaks())) from None

    def reload(self, text: str) -> None:
        """Write another file and send SIGHUP; wait until it is in force."""
        before = self.page("/config_dump")
        self.config.write_text(text)
        self.process.send_signal(signal.SIGHUP)
        eventually(lambda: self.page("/config_dump") != before, "the reload")

    def said(self) -> str:
        """Return its log so far."""
        return self.log.read_text()

    def end(self, number: signal.Signals = signal.SIGTERM, within: float = PATIENCE) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(within)


def _first_lines(process: subprocess.Popen[str], log: Path) -> list[str]:
    """Return what it prints when it is ready."""
    assert process.stdout is not None
    said = ""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not re.search(r"^\(admin\) .*\n", said, re.MULTILINE):  # which comes last
            if not selector.select(PATIENCE):
                raise AssertionError(f"not ready: {log.read_text()}")
            data = os.read(process.stdout.fileno(), 65536).decode()
            if not data:
                raise AssertionError(f"ended before it was ready: {log.read_text()}")
            said += data
    return said.splitlines()


@contextmanager
def product(
    text: str,
    work: Path,
    *options: str,
    limits: Mapping[int, int] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Product]:
    """Run the proxy on a configuration, with an admin interface added; leaving ends it, whatever happens.

    ``limits``: what it may have of the system's resources (``resource.RLIMIT_…``), as hard limits.
    ``environment``: variables beside those that there are.
    """
    admin = unused_port()
    config, log = work / "xproxy.yaml", work / "stderr.log"
    config.write_text(with_admin(text, admin))
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [
                *_limited(limits or {}),
                *(sys.executable, "-m", "xproxy", "run", "-c", str(config)),
                *options,
            ],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    try:
        ports = {}
        for line in _first_lines(process, log):
            name, _, address = line.partition(" ")
            if not address.startswith("unix:"):
                ports[name] = int(address.rpartition(":")[2])
        yield Product(process, config, ports, log, admin)
    finally:
        kill_all(process)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _limited(limits: Mapping[int, int]) -> list[str]:
    """Return the beginning of a command that runs the rest of it within ``limits``."""
    if not limits:
        return []
    calls = "".join(f"r.setrlimit({which}, ({most}, {most}));" for which, most in limits.items())
    return [
        sys.executable,
        "-c",
        f"import os, resource as r, sys; {calls} os.execv(sys.argv[1], sys.argv[1:])",
    ]


def with_admin(text: str, port: int) -> str:
    """Return a configuration with an admin interface."""
    return f"admin: {{address: '127.0.0.1:{port}'}}\n{text}"
