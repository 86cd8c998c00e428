"""The control socket."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xproxy.supervisor import messages
from xproxy.supervisor.control import MOST_CLIENTS, Client, Control, is_ours
from xproxy.supervisor.loop import Loop


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

    control = Control(loop, str(path), asked)
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
    control = Control(loop, str(path), lambda *_: pytest.fail("it was no message"))
    with connect(path) as client:
        client.send(b"nonsense")
        loop.watch(client, loop.stop)
        loop.run()
        loop.forget(client)
        assert messages.receive(client) is None
    control.close()


def test_there_may_be_so_many_at_a_time(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "control"
    control = Control(loop, str(path), lambda *_: loop.stop())
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
    control = Control(loop, str(path), lambda *_: None)
    with pytest.raises(OSError, match="in use"):
        Control(loop, str(path), lambda *_: None)
    control.close()
    path.write_text("a file")
    with pytest.raises(OSError, match="in use"):
        Control(loop, str(path), lambda *_: None)
    assert path.read_text() == "a file"
