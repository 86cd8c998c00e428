"""Workers, started for real and told things."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xproxy.supervisor.log import Log
from xproxy.supervisor.loop import Loop
from xproxy.supervisor.table import Command, Phase, Worker
from xproxy.supervisor.workers import Workers

_WORKER = str(Path(__file__).with_name("fake_worker.py"))


class Of:
    """Workers that are not proxies, and what they have said."""

    def __init__(self, folder: Path) -> None:
        self.loop = Loop()
        self.said: list[dict[str, Any]] = []
        self._read, self._write = os.pipe()
        self.gone: list[Worker] = []
        log = Log(self._write)
        environment = dict(os.environ)
        self.workers = Workers(self.loop, log, environment, self._heard, self._gone)
        arguments = (sys.executable, "-I", _WORKER, str(folder))
        self.workers.commands[1] = Command(sys.executable, arguments)
        self.workers.commands[2] = Command("/nowhere/python", ("python",))
        self.loop.after(30.0, lambda: pytest.fail("nothing ended the loop"))

    def _heard(self, _worker: Worker, message: dict[str, object]) -> None:
        self.said.append(message)
        if message["kind"] in ("prepared", "reloaded"):
            self.loop.stop()

    def _gone(self, worker: Worker) -> None:
        self.gone.append(worker)
        self.loop.stop()

    def run(self) -> None:
        self.loop._over = False
        self.loop.run()

    def logged(self) -> str:
        return os.read(self._read, 65536).decode()

    def close(self) -> None:
        for worker in list(self.workers.table.workers.values()):
            self.workers.kill(worker, signal.SIGKILL)
            os.waitpid(worker.pid, 0)
        for link in self.workers.links.values():
            link.close()
        self.loop.close()
        os.close(self._read)
        os.close(self._write)


@pytest.fixture
def of(tmp_path: Path) -> Iterator[Of]:
    found = Of(tmp_path)
    yield found
    found.close()


def started(of: Of) -> Worker:
    worker = of.workers.start(0, 1, 1)
    assert isinstance(worker, Worker)
    of.run()
    return worker


def test_one_is_started_told_to_serve_and_to_end(of: Of) -> None:
    worker = started(of)
    assert [message["kind"] for message in of.said] == ["hello", "prepared"]
    worker.said_hello = True
    of.workers.serve(worker)
    assert worker.phase.value == "serving"
    of.workers.say(worker, {"kind": "reload", "signal": "SIGHUP"})
    of.run()
    of.workers.drain(worker)
    assert worker.phase is Phase.LEAVING
    assert os.waitstatus_to_exitcode(os.waitpid(worker.pid, 0)[1]) == 0
    of.workers.table.remove(worker)


def test_one_that_has_said_nothing_is_ended_by_a_signal(of: Of) -> None:
    for end, expected in ((of.workers.drain, -signal.SIGTERM), (of.workers.cut, -signal.SIGKILL)):
        worker = started(of)
        end(worker)
        assert os.waitstatus_to_exitcode(os.waitpid(worker.pid, 0)[1]) == expected
        of.workers.table.remove(worker)
        of.workers.kill(worker, signal.SIGKILL)


def test_one_that_cannot_be_started(of: Of) -> None:
    found = of.workers.start(0, 2, 1)
    assert found == "cannot start /nowhere/python: No such file or directory"
    assert "cannot start /nowhere/python" in of.logged()
    assert not of.workers.table.workers
    assert not of.workers.links


def test_one_that_is_no_child_of_ours_is_told_to_end_and_gone_with_its_socket(of: Of) -> None:
    worker = started(of)
    worker.foreign = True
    of.workers.kill(worker, signal.SIGKILL)
    of.run()
    assert of.gone == [worker]
    assert os.waitstatus_to_exitcode(os.waitpid(worker.pid, 0)[1]) == 0, "it was told"
    of.workers.table.remove(worker)


def test_a_restart_that_is_not_wanted_any_more(of: Of) -> None:
    of.workers.restarts[0] = of.loop.after(0.0, lambda: pytest.fail("it was cancelled"))
    of.workers.cancel_restart(0)
    of.workers.cancel_restart(0)
    of.loop.after(0.01, of.loop.stop)
    of.run()


def test_a_generation_that_has_begun(of: Of) -> None:
    of.workers.begun(1)
    assert (of.workers.newest, of.workers.has_begun) == (1, {1})


def test_generations_without_a_worker_are_forgotten(of: Of) -> None:
    worker = started(of)
    for generation in (3, 4, 5):
        of.workers.commands[generation] = of.workers.commands[1]
        of.workers.begun(generation)
    of.workers.restarts[0] = of.loop.after(0.0, lambda: None)
    of.workers.forget()
    assert list(of.workers.commands) == [1, 2, 3, 4, 5], "one may be started again"
    of.workers.cancel_restart(0)
    of.workers.forget(4)
    assert list(of.workers.commands) == [1, 4, 5]
    assert of.workers.has_begun == {4, 5}
    assert worker.generation == 1
    assert of.workers.newest == 5


def test_one_that_no_system_starts_is_not_there_and_nobody_is_killed_for_it(of: Of) -> None:
    of.workers.commands[3] = Command(sys.executable, (sys.executable, "\ud800"))
    why = of.workers.start(0, 3, 1)
    assert isinstance(why, str)
    assert why.startswith(f"cannot start {sys.executable}: ")
    assert not of.workers.table.workers
    of.workers.kill(Worker(9, 0, 1, 1), signal.SIGTERM)  # which never had a pid
