"""One process follows another on the same ports: what a worker needs of whoever can do that (``migration/``).

The old one stops accepting, then the new one accepts. Nobody who connects meanwhile is refused or reset: the sockets
stay open, and both have copies of them.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeAlias

import attrs
import trio

Report: TypeAlias = Callable[[Mapping[str, object]], None]
"""Tells the supervisor how it goes, and through it whoever has asked for the upgrade. Plain values, at most 64 KiB.

Each has a ``step``. Of these the supervisor makes something: ``accepting`` (the new one does; from here on a failure
of it does not bring the old one back), ``given`` (the old one has nothing left that could go; beside it what is to be
shown), ``withdrawn`` (the old one accepts and serves as before; ``why`` says the reason), ``rehearsed``.
"""


class Runs(Protocol):
    """The runtime as these see it."""

    @property
    def accepting(self) -> trio.Event:
        """Set when it accepts; another one after ``hold``."""
        ...

    def hold(self) -> None: ...

    def accept(self) -> None: ...

    def stop(self) -> None: ...


async def refuse(_runtime: Runs, sock: socket.socket, report: Report) -> None:
    """Hand over to nobody, and take over from nobody: who is at the other end of ``sock`` learns it by its end."""
    sock.close()
    report({"step": "withdrawn", "why": "this process hands over to nobody"})
    await trio.lowlevel.checkpoint()


@attrs.frozen
class Handover:
    """How a process hands over to another, and takes over from one."""

    give: Callable[..., Awaitable[None]] = refuse
    """Called with the runtime, one end of a SEQPACKET socketpair, which it closes, and where to report: let the
    process at the other end take the place of this one. Returns when that is so, and the runtime drains; or when it
    came to nothing, and everything is as before."""
    take: Callable[..., Awaitable[None]] = refuse
    """Called likewise, when the runtime could accept (``Runtime.hold``): take the place of the process at the other
    end. Calls ``accept`` when that one has stopped, or has died.

    Called again when it accepts: for what a process has left that is older yet."""
    rehearse: Callable[..., Awaitable[None]] = refuse
    """Called like ``give``; nothing moves. Reports ``rehearsed``, with ``why`` where it would fail."""
