"""Starting a worker: a process with one end of a control socket, and perhaps of a channel to whom it follows."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

from xproxy.supervisor import messages
from xproxy.supervisor.table import Command


def spawn(
    command: Command,
    environment: dict[str, str],
    control: socket.socket,
    channel: socket.socket | None = None,
) -> int:
    """Start it and return its pid. Raises OSError: there is no such interpreter, no process to be had.

    One that is to follow another starts as a batch job (sched(7)): what serves meanwhile need not wait for it. It is
    an ordinary process again by its own doing, see ``ordinary``.

    It stays in our session and process group: what a terminal says to the group it leaves to us (`overseen`).
    """
    environment = command.environment_of(environment)
    ends = {messages.SUPERVISOR: control}
    if channel is not None:
        ends[messages.TAKEOVER] = channel
    for name, end in ends.items():
        environment[name] = str(end.fileno())
        os.set_inheritable(end.fileno(), True)
    try:
        with _batch() if channel is not None else nullcontext():
            return os.posix_spawn(command.executable, [*command.arguments], environment)
    finally:
        for end in ends.values():
            os.set_inheritable(end.fileno(), False)


@contextmanager
def _batch() -> Iterator[None]:
    # A child inherits it; posix_spawn(3) takes no such policy.
    before = os.sched_getscheduler(0)
    if before == os.SCHED_OTHER:
        _schedule(os.SCHED_BATCH)
    try:
        yield
    finally:
        if before == os.SCHED_OTHER:
            _schedule(before)


def _schedule(policy: int) -> None:
    with suppress(OSError):  # a sandbox that does not let us: then nobody starts as one
        os.sched_setscheduler(0, policy, os.sched_param(0))


def ordinary() -> None:
    """Be no batch job any more, unless whoever started us is one as well."""
    with suppress(OSError):
        if os.sched_getscheduler(0) == os.SCHED_BATCH != os.sched_getscheduler(os.getppid()):
            _schedule(os.SCHED_OTHER)
