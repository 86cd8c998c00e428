"""What a supervisor knows, written and read."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from xproxy.supervisor import messages
from xproxy.supervisor.control import Control
from xproxy.supervisor.resuming import StandIns
from xproxy.supervisor.sockets import Place
from xproxy.supervisor.state import resume, write
from xproxy.supervisor.supervisor import Supervisor
from xproxy.supervisor.systemd import Given
from xproxy.supervisor.table import Command, Key, Phase, Slot


class Copies:
    """Descriptors of this process, doubled: the former supervisor is still here."""

    def socket(self, descriptor: int) -> socket.socket:
        return socket.socket(fileno=os.dup(descriptor))

    def descriptor(self, descriptor: int) -> int:
        return os.dup(descriptor)


@pytest.fixture
def take() -> Iterator[StandIns]:
    with StandIns() as found:
        yield found


def close(supervisor: Supervisor) -> None:
    workers = supervisor.workers
    for link in list(workers.links.values()):
        link.close()
    for slot in (*workers.table.slots.values(), *workers.table.waiting.values()):
        slot.socket.close()
    supervisor.upgrading.close()
    supervisor.let_go()


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    """One that knows something of everything."""
    command = Command("/usr/bin/python", ("python", "run"), (("A", "b"), ("\udcff", "")), ("C",))
    given = Given.before("/run/notify", 30.0)
    found = Supervisor(command, {"PATH": "/bin"}, given, write)
    workers = found.workers
    workers.log.become("json", "warning")
    workers.commands.update({3: command, 4: Command("/opt/python", ("python", "run"))})
    workers.newest = 4
    workers.has_begun.update({3, 4})
    theirs = []
    for index in (0, 1):
        worker = workers.table.add(index, 4, 2)
        worker.phase, worker.pid, worker.said_hello = Phase.SERVING, 100 + index, True
        ours, other = messages.pair()
        theirs.append(other)
        workers.connect(worker, ours)
    old = workers.table.add(1, 3, 2)
    old.phase, old.gives, old.serving, old.why = Phase.LEAVING, True, {"http1": 2}, "none"
    # One does not read: what is said to it waits, with a descriptor that is no socket.
    link = workers.links[1]
    while len(link.waiting) < 2:
        link.say({"kind": "a", "filling": "x" * 30_000}, [0])
    listening = socket.create_server(("127.0.0.1", 0))
    slot = Slot(listening)
    slot.holders.update({1, 2})
    workers.table.slots[Key("edge", Place("127.0.0.1", 0, "")), 0] = slot
    waiting = Slot(socket.create_server(("127.0.0.1", 0)), activated=True)
    workers.table.waiting.update({"web": waiting, "127.0.0.1:80": waiting})
    found.restart_after(20.0, 5, 3, 8)
    found.restart_after(20.0, 6, 3, 8)
    workers.cancel_restart(6)
    found.backoff(5).failures = 3
    found.reloading.add(1)
    path = str(tmp_path / "control")
    control = Control(found.loop, path, found.upgrading.asked, workers.log)
    found.upgrading.recall(7, {3: 2}, control)
    ours, client = messages.pair()
    found.upgrading.finishing = control.take(ours), {"kind": "done", "code": 0}
    yield found
    close(found)
    for sock in (*theirs, client):
        sock.close()


def plain(supervisor: Supervisor) -> Any:
    """Return what is written, without what is counted from now or is another number in each process."""

    def without(value: object) -> object:
        if isinstance(value, dict):
            timed = ("seconds", "lived")
            return {
                name: round(one) if name in timed else without(one)
                for name, one in value.items()
                if name not in ("socket", "client", "descriptors")
            }
        return [without(one) for one in value] if isinstance(value, list) else value

    return without(json.loads(write(supervisor).data))


def test_another_goes_on_from_it_and_would_write_the_same(supervisor: Supervisor) -> None:
    written = write(supervisor)
    assert len(written.descriptors) == len(set(written.descriptors)) == 8
    found = resume(written.data, Copies(), back=True)
    try:
        assert plain(found) == plain(supervisor)
        assert len(write(found).descriptors) == 8
        assert found.command == supervisor.command
        worker = found.workers.table.workers[1]
        assert worker.since == pytest.approx(supervisor.workers.table.workers[1].since, abs=5)
        assert found.workers.restarts.keys() == {5}
        at = supervisor.workers.restarts[5].at
        assert found.workers.restarts[5].at == pytest.approx(at, abs=5)
        assert found.upgrading.finishing is not None
        assert found.upgrading.finishing[0] is not None
    finally:
        close(found)


def test_the_next_one_is_what_serves(supervisor: Supervisor, take: StandIns) -> None:
    found = resume(write(supervisor).data, take)
    found.let_go()
    assert found.command == supervisor.workers.commands[4]


def _version(state: dict[str, Any]) -> None:
    state["v"] = 2


def _no_command(state: dict[str, Any]) -> None:
    state["newest"] = 9


def _same_id(state: dict[str, Any]) -> None:
    state["next"] = 3


def _phase(state: dict[str, Any]) -> None:
    state["workers"][0]["phase"] = "dancing"


def _less(state: dict[str, Any]) -> None:
    del state["slots"][0]["path"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_version, "the state has version 2, known is 1"),
        (_no_command, "no command for the generation that serves"),
        (_same_id, "a worker's id to another"),
        (_phase, "'dancing' is not a valid Phase"),
        (_less, r"the state\.slots\.path is no text"),
    ],
)
def test_what_is_wrong(
    change: Callable[[dict[str, Any]], None], why: str, supervisor: Supervisor, take: StandIns
) -> None:
    state = json.loads(write(supervisor).data)
    change(state)
    with pytest.raises(ValueError, match=why):
        resume(json.dumps(state).encode(), take)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"v":1}'])
def test_what_is_none(data: bytes, take: StandIns) -> None:
    with pytest.raises(ValueError):
        resume(data, take)


def test_each_field_is_needed(supervisor: Supervisor, take: StandIns) -> None:
    state = json.loads(write(supervisor).data)
    for name in state:
        if name in ("control", "finishing", "command"):
            continue
        less = {key: value for key, value in state.items() if key != name}
        with pytest.raises(ValueError, match=name):
            resume(json.dumps(less).encode(), take)
