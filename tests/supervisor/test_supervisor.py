"""A supervisor with workers that are no proxies; with real ones: tests/process/test_supervisor.py."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

from tests.process.product import PATIENCE, ROOT, eventually, kill_all, unused_port, workers_of

_WORKER: Final = str(Path(__file__).with_name("fake_worker.py"))
_RUN: Final = """
import os, sys
from xproxy.supervisor.state import write
from xproxy.supervisor.supervisor import Supervisor
from xproxy.supervisor.systemd import Given
from xproxy.supervisor.table import Command
given = Given(os.environ, os.getpid())
command = Command(sys.executable, (sys.executable, "-I", *sys.argv[1:]))
sys.exit(Supervisor(command, dict(os.environ), given, write).run())
"""


@attrs.define(eq=False)
class Supervised:
    process: subprocess.Popen[str]
    folder: Path

    def heard(self, kind: str) -> list[dict[str, Any]]:
        """Return what workers have heard of this kind."""
        path = self.folder / "heard"
        lines = path.read_text().splitlines() if path.exists() else []
        found = [json.loads(line) for line in lines if line.endswith("}")]
        return [one for one in found if one["kind"] == kind]

    def wait_for(self, kind: str, count: int = 1) -> list[dict[str, Any]]:
        eventually(lambda: len(self.heard(kind)) >= count, f"{count} × {kind}")
        return self.heard(kind)

    @property
    def workers(self) -> list[int]:
        return workers_of(self.process.pid)

    def said(self) -> list[str]:
        lines = (self.folder / "stderr").read_text().splitlines()
        return [json.loads(line)["message"] if line.startswith("{") else line for line in lines]

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


Start = Callable[..., Any]


@contextmanager
def supervised(
    folder: Path, *options: str, script: str = "", **environment: str
) -> Iterator[Supervised]:
    with (folder / "stderr").open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", script or _RUN, _WORKER, str(folder), *options],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=ROOT,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    with process:
        try:
            yield Supervised(process, folder)
        finally:
            kill_all(process)


def output(found: Supervised) -> str:
    assert found.process.stdout is not None
    return found.process.stdout.read()


def test_workers_are_started_told_to_serve_and_drained(tmp_path: Path) -> None:
    with supervised(tmp_path, "workers=3") as found:
        started = found.wait_for("start", 3)
        assert len({one["pid"] for one in started}) == 3
        assert sum(one["announce"] for one in started) == 1
        welcomes = found.heard("welcome")
        assert [one["index"] for one in sorted(welcomes, key=lambda one: one["index"])] == [0, 1, 2]
        assert found.end() == 0
        assert [one["signal"] for one in found.heard("drain")] == ["SIGTERM"] * 3
        assert output(found) == "ready\n"


def test_the_first_one_that_cannot_start_ends_all_with_its_code(tmp_path: Path) -> None:
    with supervised(tmp_path, "exits=2") as found:
        assert found.process.wait(PATIENCE) == 2
        assert found.said() == []
    (tmp_path / "heard").unlink()
    with supervised(tmp_path, "exits=0") as found:
        assert found.process.wait(PATIENCE) == 0, "as --help does"


def test_the_worst_exit_code_counts(tmp_path: Path) -> None:
    with supervised(tmp_path, "workers=2", "code=3") as found:
        found.wait_for("start", 2)
        assert found.end() == 3


def test_a_second_signal_cuts(tmp_path: Path) -> None:
    with supervised(tmp_path, "stubborn=1") as found:
        found.wait_for("start")
        found.process.send_signal(signal.SIGTERM)
        found.wait_for("drain")
        found.process.send_signal(signal.SIGHUP)
        found.wait_for("reload")
        found.process.send_signal(signal.SIGINT)
        assert found.process.wait(PATIENCE) == 0
        assert [one["signal"] for one in found.heard("cut")] == ["SIGINT"]


def test_a_terminals_interrupt_is_one_drain(tmp_path: Path) -> None:
    with supervised(tmp_path, "stubborn=1", "workers=2") as found:
        found.wait_for("start", 2)
        os.killpg(found.process.pid, signal.SIGINT)
        found.wait_for("drain", 2)
        assert len(found.workers) == 2
        assert not found.heard("cut")


def test_sighup_goes_to_all(tmp_path: Path) -> None:
    with supervised(tmp_path, "workers=2") as found:
        found.wait_for("start", 2)
        found.process.send_signal(signal.SIGHUP)
        assert len({one["pid"] for one in found.wait_for("reload", 2)}) == 2


def test_a_dead_worker_is_followed_by_another_on_the_same_sockets(tmp_path: Path) -> None:
    port = unused_port()
    with supervised(tmp_path, f"listen=127.0.0.1:{port}", "workers=2") as found:
        found.wait_for("start", 2)
        dead = found.workers[1]
        os.kill(dead, signal.SIGKILL)
        # Its queue is open all the time.
        with socket.create_connection(("127.0.0.1", port), PATIENCE):
            started = found.wait_for("start", 3)
        assert started[-1]["sockets"] == [["127.0.0.1", port]]
        assert not started[-1]["announce"]
        welcomes = {one["pid"]: one for one in found.heard("welcome")}
        assert welcomes[started[-1]["pid"]]["index"] == welcomes[dead]["index"]
        (line,) = found.said()
        assert "ended unexpectedly, by SIGKILL; it is started again" in line
        assert str(dead) in line
        assert found.end() == 0


def test_one_that_dies_again_and_again_is_started_ever_more_slowly(tmp_path: Path) -> None:
    with supervised(tmp_path, "dies=1") as found:
        eventually(lambda: len(found.said()) >= 4, "four ends")
        ends = [line.rpartition("; ")[2] for line in found.said()]
        assert ends[:4] == [
            "it is started again",
            "it is started again in 0.1 s",
            "it is started again in 0.2 s",
            "it is started again in 0.4 s",
        ]
        assert found.end() in (0, 137)


def test_a_port_that_is_taken_is_the_workers_to_say(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with supervised(tmp_path, f"listen=127.0.0.1:{port}", "workers=2") as found:
            assert found.process.wait(PATIENCE) == 1
            assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in found.said()


def test_a_path_is_removed_at_the_end_and_nobody_can_connect_amid_it(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    with supervised(tmp_path, f"listen=unix:{path}", "workers=2", "stubborn=1") as found:
        found.wait_for("start", 2)
        assert path.is_socket()
        found.process.send_signal(signal.SIGTERM)
        found.wait_for("drain", 2)
        assert not path.exists()
        assert found.end() == 0


def test_workers_outlive_their_supervisor(tmp_path: Path) -> None:
    with supervised(tmp_path, "workers=2") as found:
        found.wait_for("start", 2)
        workers = found.workers
        found.process.kill()
        found.process.wait(PATIENCE)
        found.wait_for("end", 2)
        for pid in workers:
            os.kill(pid, 0)


def test_sockets_from_the_start_and_what_a_service_manager_hears(tmp_path: Path) -> None:
    notify = tmp_path / "notify"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        socket.socket() as given,
    ):
        manager.bind(str(notify))
        manager.settimeout(PATIENCE)
        given.bind(("127.0.0.1", 0))
        given.listen()
        host, port = given.getsockname()
        # Its pid is known to the shell alone that becomes it; descriptors begin at 3.
        script = 'export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web; exec "$@" 3<&0 </dev/null'
        with (tmp_path / "stderr").open("w") as stderr:
            process = subprocess.Popen(
                [
                    *("sh", "-c", script, "sh", sys.executable, "-c", _RUN),
                    *(_WORKER, str(tmp_path), "listen=127.0.0.9:9", "workers=2"),
                ],
                stdin=given.fileno(),
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                cwd=ROOT,
                env={**os.environ, "NOTIFY_SOCKET": str(notify), "WATCHDOG_USEC": "100000"},
                start_new_session=True,
            )
        with process:
            try:
                found = Supervised(process, tmp_path)
                ready = _hear(manager, b"READY=1")
                assert b"STATUS=2 workers of generation 1" in ready
                assert f"MAINPID={process.pid}".encode() in ready
                started = found.wait_for("start", 2)
                assert [one["sockets"] for one in started] == [[[host, port]]] * 2, "both have it"
                _hear(manager, b"WATCHDOG=1")
                process.send_signal(signal.SIGHUP)
                assert b"MONOTONIC_USEC=" in _hear(manager, b"RELOADING=1")
                _hear(manager, b"READY=1")
                assert found.end() == 0
                _hear(manager, b"STOPPING=1")
            finally:
                kill_all(process)


def _hear(manager: socket.socket, wanted: bytes) -> bytes:
    """Return the next message that says this."""
    while True:
        heard = manager.recv(4096)
        if wanted in heard:
            return heard


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_it_is_small(tmp_path: Path) -> None:
    with supervised(tmp_path, "workers=2") as found:
        found.wait_for("start", 2)
        status = Path(f"/proc/{found.process.pid}/status").read_text()
        (resident,) = [line.split()[1] for line in status.splitlines() if "VmRSS" in line]
        assert int(resident) <= 15 * 1024
