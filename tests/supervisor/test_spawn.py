"""Starting a process with a control socket."""

from __future__ import annotations

import os
import sys

import pytest

from xproxy.supervisor import messages
from xproxy.supervisor.spawn import spawn
from xproxy.supervisor.table import Command

_SAY = """
import os, socket
for name in ("XPROXY_SUPERVISOR", "XPROXY_TAKEOVER"):
    if name in os.environ:
        socket.socket(fileno=int(os.environ[name])).send(f"{name} {os.environ['A']}".encode())
"""


def test_it_has_its_ends_and_its_environment_and_nothing_else() -> None:
    ours, theirs = messages.pair()
    channel, end = messages.pair()
    with ours, theirs, channel, end:
        command = Command(sys.executable, ("python", "-I", "-c", _SAY), (("A", "b"),))
        pid = spawn(command, {"A": "a"}, theirs, end)
        assert os.waitpid(pid, 0)[1] == 0
        assert ours.recv(99) == b"XPROXY_SUPERVISOR b"
        assert channel.recv(99) == b"XPROXY_TAKEOVER b"
        assert not os.get_inheritable(theirs.fileno())


def test_an_interpreter_that_is_not_there() -> None:
    ours, theirs = messages.pair()
    with ours, theirs, pytest.raises(FileNotFoundError):
        spawn(Command("/nowhere/python", ("python",)), {}, theirs)
