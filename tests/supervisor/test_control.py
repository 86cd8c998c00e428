"""The control socket."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from xproxy.supervisor import control as under_test
from xproxy.supervisor import messages
from xproxy.supervisor.control import MOST_CLIENTS, Client, Control, is_ours
from xproxy.supervisor.log import Log
from xproxy.supervisor.loop import Loop

LOG: Final = Log(os.open(os.devnull, os.O_WRONLY))


@pytest.fixture
def loop() -> Iterator[Loop]:
    found = Loop()
    found.after(30.0, lambda: pytest.fail("nothing ended the loop"))
    yield found
    found.close()


def connect(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.connect(str(path))
    return client


def test_a_question_and_its_answer(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "control"
    heard: list[dict[str, Any]] = []

    def asked(client: Client, message: dict[str, object]) -> None:
        heard.append(message)
        client.say({"kind": "answer"})
        loop.stop()

    control = Control(loop, str(path), asked, LOG)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with connect(path) as client:
        messages.send(client, {"kind": "question"})
        loop.run()
        assert heard == [{"kind": "question"}]
        assert messages.receive(client) == ({"kind": "answer"}, [])
        assert is_ours(client)
        control.close()
        assert messages.receive(client) is None
    assert not path.exists()


def test_who_talks_nonsense_is_hung_up_on(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "control"
    control = Control(loop, str(path), lambda *_: pytest.fail("it was no message"), LOG)
    with connect(path) as client:
        client.send(b"nonsense")
        loop.watch(client, loop.stop)
        loop.run()
        loop.forget(client)
        assert messages.receive(client) is None
    control.close()


def test_there_may_be_so_many_at_a_time(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "control"
    control = Control(loop, str(path), lambda *_: loop.stop(), LOG)
    clients = []
    for _ in range(MOST_CLIENTS):
        client = connect(path)
        messages.send(client, {"kind": "a"})
        loop._over = False
        loop.run()
        clients.append(client)
    with connect(path) as client:
        loop.watch(client, loop.stop)
        loop._over = False
        loop.run()
        loop.forget(client)
        assert messages.receive(client) is None
    control.close()
    for client in clients:
        client.close()


def test_a_path_that_nobody_listens_on_is_taken_over(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(path))
    control = Control(loop, str(path), lambda *_: None, LOG)
    with pytest.raises(OSError, match="in use"):
        Control(loop, str(path), lambda *_: None, LOG)
    control.close()
    path.write_text("a file")
    with pytest.raises(OSError, match="in use"):
        Control(loop, str(path), lambda *_: None, LOG)
    assert path.read_text() == "a file"


def answers(client: Client, message: dict[str, object]) -> None:
    client.say({"kind": "done", "to": message["kind"]})


def run_until_said(loop: Loop, client: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Return what the client is told next; None: it was hung up on."""
    loop.watch(client, loop.stop)
    loop._over = False
    loop.run()
    loop.forget(client)
    return messages.receive(client)


@pytest.mark.parametrize("asks", [False, True])
def test_who_is_silent_gives_up_its_place(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asks: bool
) -> None:
    monkeypatch.setattr(under_test, "SILENCE", 0.1)
    path = tmp_path / "control"
    control = Control(loop, str(path), answers, LOG)
    silent = [connect(path) for _ in range(MOST_CLIENTS)]
    if asks:
        for client in silent:
            messages.send(client, {"kind": "a"})
        for client in silent:
            assert run_until_said(loop, client) == ({"kind": "done", "to": "a"}, [])
    for client in silent:
        assert run_until_said(loop, client) is None
    with connect(path) as client:
        messages.send(client, {"kind": "b"})
        assert run_until_said(loop, client) == ({"kind": "done", "to": "b"}, [])
    control.close()
    for client in silent:
        client.close()


def test_who_waits_for_an_answer_is_not_silent(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "SILENCE", 0.05)
    path = tmp_path / "control"

    def asked(client: Client, message: dict[str, object]) -> None:
        if message["kind"] == "short":
            answers(client, message)
        else:
            loop.after(0.3, lambda: answers(client, message))

    control = Control(loop, str(path), asked, LOG)
    with connect(path) as client:
        messages.send(client, {"kind": "long"})
        messages.send(client, {"kind": "short"})
        for kind in ("short", "long"):
            assert run_until_said(loop, client) == ({"kind": "done", "to": kind}, [])
        assert run_until_said(loop, client) is None
    control.close()


class Scarce:
    """A listening socket for which there is no descriptor so many times."""

    def __init__(self, sock: socket.socket, times: int) -> None:
        self.sock = sock
        self.times = times
        self.asked = 0

    def accept(self) -> tuple[socket.socket, object]:
        self.asked += 1
        if self.asked <= self.times:
            raise OSError(errno.EMFILE, "Too many open files")
        return self.sock.accept()

    def fileno(self) -> int:
        return self.sock.fileno()

    def close(self) -> None:
        self.sock.close()


def test_without_a_descriptor_it_rests_and_says_so_once(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "ACCEPT_AGAIN", 0.02)
    path, said = tmp_path / "control", tmp_path / "log"
    with said.open("w") as file:
        control = Control(loop, str(path), answers, Log(file.fileno()))
        scarce = Scarce(control._socket, 3)
        monkeypatch.setattr(control, "_socket", scarce)
        for times in (1, 2):
            with connect(path) as client:
                messages.send(client, {"kind": "a"})
                assert run_until_said(loop, client) == ({"kind": "done", "to": "a"}, [])
            assert scarce.asked == 4, "it was looked at once for each pause"
            assert said.read_text().count("nobody can be accepted") == times
            scarce.asked = 0
        control.close()


@contextlib.contextmanager
def another_user(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Be somebody else: as root truly, else by saying so."""
    ours = os.geteuid()
    if ours == 0:
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(ours)
    else:
        yield
        monkeypatch.setattr(os, "geteuid", lambda: ours + 1)


def test_another_user_is_hung_up_on_whatever_it_asks(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "control"
        control = Control(loop, str(path), lambda *_: asked.append("by another"), LOG)
        # As if the mode did not keep them out.
        os.chmod(folder, 0o755)
        os.chmod(path, 0o666)
        with another_user(monkeypatch):
            client = connect(path)
        with client:
            messages.send(client, {"kind": "a"})
            assert run_until_said(loop, client) is None
        control.close()
    assert asked == []


def test_one_that_pauses_accepts_later_and_leaves_its_path(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "control"

    def asked(client: Client, message: dict[str, object]) -> None:
        client.say({"kind": "answer"})
        loop.stop()

    control = Control(loop, str(path), asked, LOG)
    control.pause()
    with connect(path) as client:
        messages.send(client, {"kind": "question"})
        loop.after(0.0, loop.stop)
        loop.run()
        assert not control.clients
        loop._over = False
        # Another one goes on with a copy of its socket.
        copy = socket.socket(fileno=os.dup(control.descriptor))
        control.close(leave=True)
        assert path.exists()
        control = Control(loop, str(path), asked, LOG, copy)
        loop.run()
        assert messages.receive(client) == ({"kind": "answer"}, [])
        control.close()
    assert not path.exists()
