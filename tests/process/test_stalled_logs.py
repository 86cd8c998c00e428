"""Nobody reads the log, or there is no room for it: the proxy goes on, says how much is missing, and ends in time."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs
import pytest

from tests.process.product import (
    PATIENCE,
    eventually,
    kill_all,
    resident_bytes,
    unused_port,
    workers_of,
)
from xproxy.observe.log_rate import ALIKE_LINES, ALIKE_SECONDS
from xproxy.observe.log_writer import MAX_PENDING_BYTES

pytestmark = pytest.mark.slow

CONFIG: Final = """\
admin: {{address: "127.0.0.1:{admin}"}}
listeners:
  - {{name: edge, address: "127.0.0.1:{port}", codecs: [http1], routes: main, filters: [{log}]}}
routes: {{main: [{{filters: [{{name: direct_response, body: fine}}]}}]}}
clusters: {{}}
"""


@attrs.define(eq=False)
class Running:
    process: subprocess.Popen[bytes]
    port: int
    admin: int

    def get(self, agent: str = "curl") -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", "/", headers={"user-agent": agent})
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def malformed(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as client:
            client.sendall(b"GET / HTTP/1.1\r\nhost x\r\n\r\n")
            while client.recv(65536):
                pass

    def stat(self, name: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=PATIENCE)
        try:
            connection.request("GET", "/stats")
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        found = [line for line in text.splitlines() if line.startswith(f"{name}: ")]
        return int(found[0].rpartition(" ")[2]) if found else 0


@contextmanager
def running(folder: Path, log: str, stderr: int) -> Iterator[Running]:
    port, admin = unused_port(), unused_port()
    config = folder / "proxy.yaml"
    config.write_text(CONFIG.format(port=port, admin=admin, log=log))
    command = [sys.executable, "-m", "xproxy", "run", "-c", str(config)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            for _ in range(2):
                assert process.stdout.readline()
            yield Running(process, port, admin)
        finally:
            kill_all(process)


@contextmanager
def unread_pipe() -> Iterator[int]:
    """Give the end to write to, of a pipe that is full already."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while os.write(writer, b"x" * 4096):
            pass
    except BlockingIOError:
        pass
    os.set_blocking(writer, True)
    try:
        yield writer
    finally:
        os.close(reader)
        os.close(writer)


def ends_in_time(proxy: Running) -> None:
    proxy.process.send_signal(signal.SIGTERM)
    assert proxy.process.wait(PATIENCE) == 0


AGENT: Final = "a" * 55_000
HELD: Final = 3 * MAX_PENDING_BYTES
"""Bytes that lines which wait may add: as they wait, and what making them takes. Twice as many are logged."""
BY_AGENT: Final = '{name: access_log, template: "%REQ(user-agent)%", path: PATH, max_field: 60000}'


@pytest.mark.parametrize(
    ("log", "load", "times", "counter"),
    [
        pytest.param(
            "{name: access_log, max_pending: 50}",
            Running.malformed,
            400,
            "lines_dropped",
            id="both",
        ),
        pytest.param(
            BY_AGENT.replace("PATH", "stderr"),
            lambda p: p.get(AGENT),
            2 * HELD // len(AGENT),
            "lines_dropped",
            id="long",
        ),
    ],
)
def test_a_stalled_reader_of_standard_error_holds_nobody(
    tmp_path: Path, log: str, load: Callable[[Running], object], times: int, counter: str
) -> None:
    with unread_pipe() as stderr, running(tmp_path, log, stderr) as proxy:
        assert proxy.get() == "fine"
        before = resident_bytes(workers_of(proxy.process.pid)[0])
        for _ in range(times):
            load(proxy)
        assert proxy.get() == "fine"
        assert proxy.stat(f"log.stderr.{counter}") > 100
        assert resident_bytes(workers_of(proxy.process.pid)[0]) - before < HELD
        ends_in_time(proxy)


def test_repeated_lines_are_held_back_and_counted(tmp_path: Path) -> None:
    log = tmp_path / "stderr"

    def told() -> int:
        return sum("listener edge: " in line for line in log.read_text().splitlines())

    with (
        log.open("wb") as file,
        running(tmp_path, "{name: access_log, path: /dev/null}", file.fileno()) as proxy,
    ):

        def held_back() -> int:
            return proxy.stat("log.stderr.lines_held_back")

        begun, sent = time.monotonic(), 0
        while held_back() == 0:
            assert time.monotonic() - begun < PATIENCE
            for _ in range(5 * ALIKE_LINES):
                proxy.malformed()
                sent += 1
        eventually(lambda: told() + held_back() == sent, "each is written or counted")
        periods = 1 + (time.monotonic() - begun) // ALIKE_SECONDS
        assert ALIKE_LINES <= told() <= ALIKE_LINES * periods
        ends_in_time(proxy)
    assert "more lines like this one" in log.read_text()


def test_a_full_disk_costs_lines_and_says_so(tmp_path: Path) -> None:
    log = tmp_path / "stderr"
    with (
        log.open("wb") as file,
        running(tmp_path, "{name: access_log, path: /dev/full}", file.fileno()) as proxy,
    ):
        for _ in range(20):
            assert proxy.get() == "fine"
        eventually(lambda: proxy.stat("log./dev/full.lines_lost") == 20, "all are counted")
        ends_in_time(proxy)
    said = [line for line in log.read_text().splitlines() if "cannot be written" in line]
    assert len(said) == 1
    assert "No space left on device" in said[0]


def test_standard_error_on_a_full_disk(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full, running(tmp_path, "access_log", full.fileno()) as proxy:
        for _ in range(20):
            proxy.malformed()
            assert proxy.get() == "fine"
        eventually(lambda: proxy.stat("log.stderr.lines_lost") >= 40, "all are counted")
        ends_in_time(proxy)
