"""The next program; as a process of its own: test_renewal.py."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from xproxy.supervisor import memory, messages
from xproxy.supervisor.identity import identity
from xproxy.supervisor.resuming import Kept, StandIns, resumed, try_it
from xproxy.supervisor.state import write
from xproxy.supervisor.supervisor import Supervisor
from xproxy.supervisor.systemd import Given
from xproxy.supervisor.table import Command


def state() -> bytes:
    """Return what a supervisor has written that knows little."""
    command = Command("/usr/bin/python", ("python", "run"))
    supervisor = Supervisor(command, {}, Given.before("", 0.0), write)
    supervisor.workers.commands[1] = command
    supervisor.workers.newest = 1
    written = write(supervisor)
    supervisor.let_go()
    return written.data


def tried(monkeypatch: pytest.MonkeyPatch, data: bytes, kind: str = "try") -> dict[str, object]:
    ours, theirs = messages.pair()
    written = memory.put(data)
    with ours, theirs:
        messages.send(ours, {"kind": kind, "v": 1}, [written])
        os.close(written)
        monkeypatch.setenv(messages.SUPERVISOR, str(theirs.fileno()))
        try_it()
        heard = messages.receive(ours)
        assert heard is not None
        return heard[0]


def test_one_that_could_says_which_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = tried(monkeypatch, state())
    assert (answer["kind"], answer["identity"]) == ("tried", identity())


def test_one_that_could_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="the state"):
        tried(monkeypatch, b"{}")
    with pytest.raises(ValueError, match="what is to be tried"):
        tried(monkeypatch, state(), kind="welcome")


def test_what_was_left_is_taken_and_the_environment_cleared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for why, how in ((None, "renewed"), ("half installed", "kept")):
        descriptor = memory.put(state())
        monkeypatch.setenv(messages.RESUME, str(descriptor))
        if why is not None:
            monkeypatch.setenv(messages.NOT_RESUMED, why)
        supervisor, renewed = resumed()
        supervisor.let_go()
        assert renewed.how == how
        assert (why or "") in renewed.why
        assert not {messages.RESUME, messages.NOT_RESUMED} & os.environ.keys()
        with pytest.raises(OSError):
            os.fstat(descriptor)


def test_what_cannot_be_read_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    descriptor = memory.put(b"{}")
    monkeypatch.setenv(messages.RESUME, str(descriptor))
    with pytest.raises(ValueError, match="the state"):
        resumed()
    os.close(descriptor)
    assert os.environ[messages.RESUME] == str(descriptor), "the former one needs it"


def test_descriptors_that_were_kept(tmp_path: Path) -> None:
    with socket.socket() as sock, (tmp_path / "file").open("w") as file:
        numbers = os.dup(sock.fileno()), os.dup(file.fileno())
    for number in numbers:
        os.set_inheritable(number, True)
    kept = Kept()
    taken = kept.socket(numbers[0])
    assert kept.descriptor(numbers[1]) == numbers[1]
    with pytest.raises(OSError):
        kept.socket(numbers[1])
    kept.close_on_exec()
    assert not any(map(os.get_inheritable, numbers))
    taken.close()
    os.close(numbers[1])
    with pytest.raises(OSError):
        kept.descriptor(numbers[1])


def test_they_stay_open_for_whoever_comes_back() -> None:
    with socket.socket() as sock:
        number = os.dup(sock.fileno())
    kept = Kept()
    kept.socket(number)
    kept.leave_open()
    del kept
    os.close(number)


def test_stand_ins_are_descriptors_too_and_closed_together() -> None:
    with StandIns() as stand_ins:
        sock, number = stand_ins.socket(99), stand_ins.descriptor(99)
        assert sock.fileno() >= 0
        os.fstat(number)
    assert sock.fileno() == -1
