"""One process follows another on the same ports: the old one stops accepting, then the new one accepts.

Nobody who connects meanwhile is refused or reset: the sockets stay open, and both have copies of them. What the old
one serves it ends as in a drain. Whoever can do more takes the place of these two functions (``Handover``).
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol, TypeAlias

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


Side: TypeAlias = Callable[[Runs, socket.socket, Report], Awaitable[None]]

_PATIENCE: Final = 10.0
"""Seconds for the other side to answer."""
_STOPPED: Final = b"stopped"
_ACCEPTING: Final = b"accepting"


async def give(runtime: Runs, sock: socket.socket, report: Report) -> None:
    """Let the process at the other end of ``sock`` take the place of this one; it is closed at the end.

    Returns when that is so, and ``runtime`` drains; or when it came to nothing, and everything is as before.
    """
    with trio.socket.from_stdlib_socket(sock) as channel:
        runtime.hold()
        report({"step": "stopped"})
        answer = b""
        try:
            with trio.move_on_after(_PATIENCE):
                await channel.send(_STOPPED)
                answer = await channel.recv(len(_ACCEPTING))
        except OSError:
            answer = b""
        if answer == _ACCEPTING:
            report({"step": "given"})
            runtime.stop()
        else:
            runtime.accept()
            report({"step": "withdrawn", "why": "the new worker does not accept"})


async def take(runtime: Runs, sock: socket.socket, report: Report) -> None:
    """Take the place of the process at the other end of ``sock``, which is closed at the end.

    ``runtime`` accepts when that one has stopped, or has died.
    """
    with trio.socket.from_stdlib_socket(sock) as channel:
        try:
            heard = await channel.recv(len(_STOPPED))
        except OSError:
            heard = b""
        runtime.accept()
        report({"step": "accepting"})
        if heard:
            try:
                await channel.send(_ACCEPTING)
            except OSError:
                return  # it died in this very moment; we accept all the same


async def rehearse(_runtime: Runs, sock: socket.socket, report: Report) -> None:
    """Try whether the other side could take what there is: here there is nothing that moves."""
    sock.close()
    report({"step": "rehearsed"})
    await trio.lowlevel.checkpoint()


@attrs.frozen
class Handover:
    """How a process hands over to another, and takes over from one."""

    give: Callable[..., Awaitable[None]] = give
    """See ``give``: called with the runtime, one end of a SEQPACKET socketpair, and where to report."""
    take: Callable[..., Awaitable[None]] = take
    """See ``take``: called likewise, when ``runtime`` could accept (``Runtime.hold``). Calls ``accept`` in time.

    Called again when it accepts: for what a process has left that is older yet."""
    rehearse: Callable[..., Awaitable[None]] = rehearse
    """Called like ``give``; nothing moves. Reports ``rehearsed``, with ``why`` where it would fail."""
