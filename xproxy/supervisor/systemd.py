"""What a service manager gives and wants to hear (sd_listen_fds(3), sd_notify(3)): systemd, or who plays it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final

_FIRST: Final = 3
"""Descriptors that are passed begin here."""
_MOST: Final = 4096
_OURS: Final = (
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
)


class Given:
    """What the environment says, taken out of it: no worker is to believe that it is meant."""

    __slots__ = ("notify", "sockets", "watchdog")

    def __init__(self, environment: MutableMapping[str, str], pid: int) -> None:
        found = {name: environment.pop(name) for name in _OURS if name in environment}
        self.sockets: Final[list[tuple[str, int]]] = _listening(found, pid)
        """Listening sockets: the name each was given, its descriptor."""
        self.notify: Final = found.get("NOTIFY_SOCKET", "")
        """Where it wants to hear; empty: nowhere."""
        self.watchdog: Final = _watchdog(found, pid)
        """Seconds within which it wants to hear that we live; 0: it does not."""

    @classmethod
    def before(cls, notify: str, watchdog: float) -> Given:
        """Return what was given to a former program of this process, but for the sockets, which it had taken."""
        given = {"NOTIFY_SOCKET": notify} if notify else {}
        if watchdog:
            given["WATCHDOG_USEC"] = str(round(watchdog * 1e6))
        return cls(given, os.getpid())


def _listening(found: MutableMapping[str, str], pid: int) -> list[tuple[str, int]]:
    if found.get("LISTEN_PID") != str(pid):
        return []
    count = found.get("LISTEN_FDS", "")
    if not count.isdigit() or int(count) > _MOST:
        return []
    names = found.get("LISTEN_FDNAMES", "").split(":")
    return [
        (names[n] if n < len(names) else "", descriptor)
        for n, descriptor in enumerate(range(_FIRST, _FIRST + int(count)))
    ]


def _watchdog(found: MutableMapping[str, str], pid: int) -> float:
    usec = found.get("WATCHDOG_USEC", "")
    if not usec.isdigit() or found.get("WATCHDOG_PID", str(pid)) != str(pid):
        return 0.0
    return int(usec) / 1e6


class Notifier:
    """Tells a service manager how we are. Never blocks, never fails: it may be gone."""

    __slots__ = ("_address", "_socket")

    def __init__(self, address: str) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address.startswith(("@", "/")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    def tell(self, *lines: str) -> None:
        """Send assignments such as ``READY=1``."""
        if self._socket is None:
            return
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            return

    def close(self) -> None:
        """Tell nothing any more. Idempotent."""
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()

    def ready(self, status: str) -> None:
        self.tell("READY=1", f"STATUS={status}", f"MAINPID={os.getpid()}")

    def reloading(self) -> None:
        """Say that a reload has begun; ``ready`` ends it."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self.tell("RELOADING=1", f"MONOTONIC_USEC={now}")

    def stopping(self) -> None:
        self.tell("STOPPING=1")

    def alive(self) -> None:
        self.tell("WATCHDOG=1")
