"""Sockets for workers, opened for real."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xproxy.supervisor import listeners
from xproxy.supervisor.listeners import Sockets, close_all, close_unwanted, give, key_of, release
from xproxy.supervisor.sockets import CannotListen, Place
from xproxy.supervisor.table import Key


@pytest.fixture
def table() -> Iterator[Sockets]:
    found = Sockets()
    yield found
    close_all(found)


def asked(host: str = "127.0.0.1", port: int = 0, **more: object) -> dict[str, Any]:
    return {"kind": "listen", "name": "web", "host": host, "port": port, "backlog": 16, **more}


def where(found: list[socket.socket]) -> list[tuple[str, int]]:
    return [sock.getsockname() for sock in found]


def test_where_any_port_will_do_all_workers_have_the_same(table: Sockets) -> None:
    first, second = table.add(0, 1, 2), table.add(1, 1, 2)
    ours, theirs = give(table, first, asked()), give(table, second, asked())
    assert where(ours) == where(theirs)
    assert ours[0] is not theirs[0]
    assert (
        give(
            table,
            first,
            asked(),
        )
        == ours
    ), "asked again it is the same"


def test_one_worker_has_its_port_for_itself(table: Sockets) -> None:
    (sock,) = give(table, table.add(0, 1, 1), asked())
    assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
    (other,) = give(table, table.add(0, 1, 1), asked(name="b", reuse_port=True))
    assert other.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)


def test_a_socket_of_one_worker_is_shared_when_there_are_two(table: Sockets) -> None:
    (before,) = give(table, table.add(0, 1, 1), asked())
    first, second = table.add(0, 2, 2), table.add(1, 2, 2)
    assert give(table, first, asked()) == [before]
    (added,) = give(table, second, asked())
    assert where([added]) == where([before])


def test_a_single_one_and_a_path_are_shared(table: Sockets, tmp_path: Path) -> None:
    first, second = table.add(0, 1, 2), table.add(1, 1, 2)
    assert give(table, first, asked(single=True)) == give(table, second, asked(single=True))
    path = tmp_path / "x"
    unix = {"kind": "listen", "name": "u", "path": str(path), "backlog": 1}
    assert give(table, first, unix) == give(table, second, unix)
    assert not release(table, first, unix)
    assert path.exists()
    assert release(table, second, unix)
    assert not path.exists()


def test_why_it_cannot_be_and_nothing_is_left_open(table: Sockets) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(CannotListen, match=f"cannot listen on 127.0.0.1:{port}: "):
            give(table, table.add(0, 1, 2), asked(port=port))
        assert len(os.listdir("/proc/self/fd")) == before
    assert not table.slots


@pytest.mark.parametrize(
    "message",
    [
        asked(port=65536),
        asked(port=-1),
        asked(host=""),
        {**asked(), "host": 7},
        {"kind": "listen", "host": "127.0.0.1"},
        {**asked(), "backlog": "x"},
    ],
    ids=repr,
)
def test_what_is_no_question(message: dict[str, Any], table: Sockets) -> None:
    with pytest.raises(ValueError):
        give(table, table.add(0, 1, 1), message)


def test_what_nobody_wants_is_closed(table: Sockets) -> None:
    worker = table.add(0, 1, 1)
    (sock,) = give(table, worker, asked())
    close_unwanted(table)
    assert sock.fileno() >= 0
    table.remove(worker)
    close_unwanted(table)
    assert sock.fileno() == -1


def test_sockets_from_the_start(table: Sockets) -> None:
    with socket.socket() as given, socket.socket() as quiet, open(os.devnull) as file:
        given.bind(("127.0.0.1", 0))
        given.listen()
        port = given.getsockname()[1]
        wrong = listeners.take_given(
            table, [("web", os.dup(given.fileno())), ("", os.dup(quiet.fileno())), ("f", 9999)]
        )
        assert len(wrong) == 2
        del file
        first, second = table.add(0, 1, 2), table.add(1, 1, 2)
        (sock,) = give(table, first, asked(port=1))
        assert where([sock]) == [("127.0.0.1", port)], "by its name"
        assert not sock.getblocking()
        assert give(table, second, asked(port=1)) == [sock], "there can be one only"


def test_keys() -> None:
    assert key_of(asked(port=80)) == Key("", Place("127.0.0.1", 80, ""))
    assert key_of(asked()) == Key("web", Place("127.0.0.1", 0, ""))
