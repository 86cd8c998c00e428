"""What ``xproxy run`` is first: the supervisor, before anything is imported that only a worker needs."""

from __future__ import annotations

import contextlib
import os
import socket
import sys

from xproxy.supervisor.messages import SUPERVISOR, TAKEOVER, send
from xproxy.supervisor.supervisor import Supervisor
from xproxy.supervisor.systemd import Given
from xproxy.supervisor.table import Command


def is_supervisor(arguments: list[str]) -> bool:
    """Say whether a process with these arguments is a supervisor; its workers have them, too, and are told apart."""
    return arguments[1:2] == ["run"] and SUPERVISOR not in os.environ


def supervise() -> int:
    """Run workers by the command that this process was started by; returns the exit code."""
    given = Given(os.environ, os.getpid())
    for name in (SUPERVISOR, TAKEOVER):
        os.environ.pop(name, None)
    command = Command(sys.executable, (sys.executable, *sys.orig_argv[1:]))
    return Supervisor(command, dict(os.environ), given).run()


def tell_why(exc: Exception) -> None:
    """Say to the supervisor, if this is a worker, why it cannot even begin."""
    descriptor = os.environ.get(SUPERVISOR, "")
    if not descriptor.isdigit():
        return
    with contextlib.suppress(OSError):
        sock = socket.socket(fileno=int(descriptor))
        why = f"{type(exc).__name__}: {exc}"[:2000]
        send(sock, {"kind": "failed", "why": why})
        sock.detach()
