"""What ``xproxy run`` is first: the supervisor, before anything is imported that only a worker needs."""

from __future__ import annotations

import contextlib
import os
import socket
import sys

from xproxy.supervisor.messages import RESUME, SUPERVISOR, TAKEOVER, TRY, send
from xproxy.supervisor.way_back import go_back


def is_supervisor(arguments: list[str]) -> bool:
    """Say whether a process with these arguments is a supervisor; its workers have them, too, and are told apart.

    One that is only to try whether it could be one is started like these: a version that does not know of this takes
    it for a worker, and does no harm.
    """
    return arguments[1:2] == ["run"] and (SUPERVISOR not in os.environ or RESUME in os.environ)


def supervise() -> int:
    """Run workers by the command that this process was started by, or those that a former program of it has left.

    Returns the exit code.
    """
    resumes = os.environ.get(RESUME, "")
    if resumes == TRY:
        return _try()
    for name in (SUPERVISOR, TAKEOVER):
        os.environ.pop(name, None)
    if resumes:
        return _resume()
    from xproxy.supervisor.state import write
    from xproxy.supervisor.supervisor import Supervisor
    from xproxy.supervisor.systemd import Given
    from xproxy.supervisor.table import Command

    given = Given(os.environ, os.getpid())
    command = Command(sys.executable, (sys.executable, *sys.orig_argv[1:]))
    if "--takeover" in sys.argv:
        from xproxy.supervisor.successor import Successor

        return Successor(command, dict(os.environ), given).run(sys.argv)
    return Supervisor(command, dict(os.environ), given, write).run()


def _try() -> int:
    try:
        from xproxy.supervisor.resuming import try_it

        try_it()
    except Exception as exc:  # whatever it is: the supervisor that asks is to hear it, and goes on
        tell_why(exc)
        return 1
    return 0


def _resume() -> int:
    try:
        from xproxy.supervisor.resuming import resumed

        supervisor, renewed = resumed()
    except Exception as exc:  # whatever it is: the program before this one could do it
        go_back(exc)
        raise
    return supervisor.run(renewed)


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
