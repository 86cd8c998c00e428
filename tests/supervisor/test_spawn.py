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


_SCHEDULED = """
import os, socket
from xproxy.supervisor.spawn import ordinary
end = socket.socket(fileno=int(os.environ["XPROXY_SUPERVISOR"]))
before = os.sched_getscheduler(0)
ordinary()
end.send(f"{before} {os.sched_getscheduler(0)}".encode())
"""


@pytest.mark.parametrize("follows", [True, False])
def test_who_follows_another_begins_as_a_batch_job(follows: bool) -> None:
    ours, theirs = messages.pair()
    channel, end = messages.pair()
    with ours, theirs, channel, end:
        command = Command(sys.executable, ("python", "-c", _SCHEDULED))
        pid = spawn(command, dict(os.environ), theirs, end if follows else None)
        assert os.waitpid(pid, 0)[1] == 0
        before = os.SCHED_BATCH if follows else os.SCHED_OTHER
        assert ours.recv(99) == f"{before} {os.SCHED_OTHER}".encode()


def test_an_interpreter_that_is_not_there() -> None:
    ours, theirs = messages.pair()
    with ours, theirs, pytest.raises(FileNotFoundError):
        spawn(Command("/nowhere/python", ("python",)), {}, theirs)
