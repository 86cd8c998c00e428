"""Opening sockets; what a proxy makes of it is tested with ``xproxy.transport.listener``."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from xproxy.supervisor.sockets import (
    CannotListen,
    Place,
    open_socket,
    place_of,
    remove,
    share_port,
)

ANY = Place("127.0.0.1", 0, "")


def test_places() -> None:
    assert str(Place("1.2.3.4", 5, "")) == "1.2.3.4:5"
    assert str(Place("::1", 5, "")) == "[::1]:5"
    assert str(Place("", 0, "/x")) == "unix:/x"
    assert Place("", 0, "/x").is_unix


def test_a_socket_that_listens_already_can_share_its_port_later() -> None:
    with open_socket(ANY, backlog=128) as first:
        place = place_of(first)
        assert place.port
        with pytest.raises(CannotListen, match="cannot listen on 127"):
            open_socket(place, backlog=8, reuse_port=True)
        share_port(first)
        with open_socket(place, backlog=128, reuse_port=True) as second:
            clients = [socket.create_connection(place[:2]) for _ in range(64)]
            found = [_accepted(first), _accepted(second)]
            assert sum(found) == 64
            assert all(found), "the kernel deals connections out to both"
            for client in clients:
                client.close()


def _accepted(sock: socket.socket) -> int:
    count = 0
    while True:
        try:
            sock.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def test_a_path_is_removed_once(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with open_socket(Place("", 0, str(path)), backlog=8) as sock:
        assert place_of(sock) == Place("", 0, str(path))
    assert path.exists()
    remove(str(path))
    remove(str(path))
    assert not path.exists()
