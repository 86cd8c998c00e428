"""Starting a worker: a process with one end of a control socket, and perhaps of a channel to whom it follows."""

from __future__ import annotations

import os
import socket

from xproxy.supervisor import messages
from xproxy.supervisor.table import Command


def spawn(
    command: Command,
    environment: dict[str, str],
    control: socket.socket,
    channel: socket.socket | None = None,
) -> int:
    """Start it and return its pid. Raises OSError: there is no such interpreter, no process to be had.

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
        return os.posix_spawn(command.executable, [*command.arguments], environment)
    finally:
        for end in ends.values():
            os.set_inheritable(end.fileno(), False)
