"""What a service manager gives and hears."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

from xproxy.supervisor.systemd import Given, Notifier


def test_sockets_with_their_names() -> None:
    environment = {
        "LISTEN_PID": "7",
        "LISTEN_FDS": "2",
        "LISTEN_FDNAMES": "web",
        "NOTIFY_SOCKET": "/run/x",
        "WATCHDOG_USEC": "3000000",
        "WATCHDOG_PID": "7",
        "PATH": "/bin",
    }
    given = Given(environment, 7)
    assert given.sockets == [("web", 3), ("", 4)]
    assert (given.notify, given.watchdog) == ("/run/x", 3.0)
    assert environment == {"PATH": "/bin"}, "no worker is to take it for its own"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"LISTEN_PID": "8", "LISTEN_FDS": "2"},
        {"LISTEN_PID": "7", "LISTEN_FDS": "-1"},
        {"LISTEN_PID": "7", "LISTEN_FDS": "99999999"},
        {"LISTEN_FDS": "2"},
        {"WATCHDOG_USEC": "x"},
        {"WATCHDOG_USEC": "100", "WATCHDOG_PID": "8"},
    ],
)
def test_what_is_not_meant_for_us(environment: dict[str, str]) -> None:
    given = Given(environment, 7)
    assert (given.sockets, given.watchdog) == ([], 0.0)


@pytest.mark.parametrize("abstract", [False, True])
def test_what_is_told(abstract: bool, tmp_path: Path) -> None:
    name = f"@xproxy-tests-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0"))
        notifier = Notifier(name)
        notifier.ready("1 worker")
        assert manager.recv(999).decode() == f"READY=1\nSTATUS=1 worker\nMAINPID={os.getpid()}"
        notifier.reloading()
        assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=\d+", manager.recv(999))
        notifier.stopping()
        notifier.alive()
        assert [manager.recv(999), manager.recv(999)] == [b"STOPPING=1", b"WATCHDOG=1"]
    notifier.ready("nobody hears it")
    notifier.close()
    notifier.close()


def test_nobody_wants_to_hear() -> None:
    Notifier("").stopping()
