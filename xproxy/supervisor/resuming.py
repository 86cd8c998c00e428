"""The next program of a supervisor: as a child that tries whether it could go on, and as the one that does."""

from __future__ import annotations

import os
import select
import socket
from typing import Final

from xproxy.supervisor import memory, messages
from xproxy.supervisor.identity import identity
from xproxy.supervisor.renewal import Renewed
from xproxy.supervisor.state import resume
from xproxy.supervisor.supervisor import Supervisor

_PATIENCE: Final = 10.0
"""Seconds for the supervisor to say what is to be tried; it has said it before this process was started."""


class Kept:
    """Descriptors that were left open for us."""

    def __init__(self) -> None:
        # All of them until all is read: what is lost on the way would be closed, and could not be handed back.
        self._descriptors: list[int] = []
        self._sockets: list[socket.socket] = []

    def socket(self, descriptor: int) -> socket.socket:
        """See Take."""
        sock = socket.socket(fileno=descriptor)
        self._sockets.append(sock)
        return sock

    def descriptor(self, descriptor: int) -> int:
        """See Take."""
        os.fstat(descriptor)
        self._descriptors.append(descriptor)
        return descriptor

    def close_on_exec(self) -> None:
        """Keep them from whoever we start."""
        for descriptor in (*self._descriptors, *(sock.fileno() for sock in self._sockets)):
            os.set_inheritable(descriptor, False)
        self._sockets.clear()

    def leave_open(self) -> None:
        """Let go of them, so that somebody else can go on with them."""
        for sock in self._sockets:
            sock.detach()


class StandIns:
    """Others in the place of descriptors that are not here."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self._files: list[int] = []

    def __enter__(self) -> StandIns:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._sockets:
            sock.close()
        messages.close_all(self._files)

    def socket(self, _descriptor: int) -> socket.socket:
        """See Take."""
        self._sockets.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        return self._sockets[-1]

    def descriptor(self, _descriptor: int) -> int:
        """See Take."""
        self._files.append(os.open(os.devnull, os.O_RDONLY))
        return self._files[-1]


def try_it() -> None:
    """Say to the supervisor that asks which code this is, if it could go on in its place.

    Raises ValueError, OSError where it could not.
    """
    with socket.socket(fileno=os.dup(int(os.environ[messages.SUPERVISOR]))) as sock:
        ready, _, _ = select.select([sock], [], [], _PATIENCE)
        heard = messages.receive(sock) if ready else None
        if heard is None or heard[0]["kind"] != "try" or len(heard[1]) != 1:
            messages.close_all(heard[1] if heard is not None else ())
            raise ValueError("the supervisor does not say what is to be tried")
        try:
            data = memory.get(heard[1][0])
        finally:
            messages.close_all(heard[1])
        with StandIns() as stand_ins:
            # Not closed as one that ends, which would remove the path of the control socket.
            resume(data, stand_ins).let_go()
        messages.send(sock, {"kind": "tried", "v": messages.VERSION, "identity": identity()})


def resumed() -> tuple[Supervisor, Renewed]:
    """Return the supervisor that goes on from what the environment names, and how that came about.

    Raises ValueError, OSError; all descriptors are as they were then.
    """
    descriptor = int(os.environ[messages.RESUME])
    kept = Kept()
    try:
        supervisor = resume(memory.get(descriptor), kept, back=messages.NOT_RESUMED in os.environ)
    except BaseException:
        kept.leave_open()
        raise
    kept.close_on_exec()
    os.close(descriptor)
    del os.environ[messages.RESUME]
    why = os.environ.pop(messages.NOT_RESUMED, None)
    if why is None:
        return supervisor, Renewed("renewed")
    return supervisor, Renewed("kept", f"the new one could not: {why}")
