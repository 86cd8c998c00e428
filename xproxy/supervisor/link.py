"""The supervisor's end of a control socket: messages out, in order and without waiting, and messages in."""

from __future__ import annotations

import collections
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from xproxy.supervisor import messages
from xproxy.supervisor.loop import Loop

Heard: TypeAlias = Callable[[dict[str, object], list[int]], object]
"""Takes a message and its descriptors, which are its own to close."""

MOST_WAITING: Final = 1024
"""Messages for one who does not read; with more it counts as lost."""
_MOST_IN_A_ROW: Final = 32
"""Messages of one that are heard before others have their turn."""


class Link:
    """To one process."""

    __slots__ = ("_heard", "_heard_so_far", "_loop", "_lost", "_socket", "_waiting")

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        heard: Heard,
        lost: Callable[[str], object],
        waiting: Iterable[tuple[bytes, list[int]]] = (),
    ) -> None:
        """``heard`` is called for each message; ``lost`` once, with the reason or nothing, when there are no more.

        ``waiting``: packed messages that are to be sent first, with their descriptors, which become the link's.
        """
        self._loop = loop
        self._socket: socket.socket | None = sock
        self._heard = heard
        self._heard_so_far = 0
        self._lost = lost
        self._waiting: collections.deque[tuple[bytes, list[int]]] = collections.deque(waiting)
        loop.watch(sock, self._turn, writing=bool(self._waiting))

    @property
    def open(self) -> bool:
        return self._socket is not None

    @property
    def descriptor(self) -> int:
        """Of its socket; -1: it is closed."""
        return -1 if self._socket is None else self._socket.fileno()

    @property
    def waiting(self) -> Sequence[tuple[bytes, list[int]]]:
        """Packed messages that could not be sent yet, with the link's own copies of their descriptors."""
        return self._waiting

    def say(self, message: Mapping[str, object], descriptors: Sequence[int] = ()) -> None:
        """Send a message. Never blocks; to one who is gone it does nothing. Raises ValueError for one too long."""
        packed = messages.pack(message)
        if self._socket is None:
            return
        if not self._waiting:
            try:
                messages.send_packed(self._socket, packed, descriptors)
                return
            except BlockingIOError:
                pass
            except OSError as exc:
                self._end(str(exc))
                return
        if len(self._waiting) >= MOST_WAITING:
            self._end(f"it has not read {MOST_WAITING} messages")
            return
        self._waiting.append((packed, [os.dup(one) for one in descriptors]))
        self._loop.watch(self._socket, self._turn, writing=True)

    def pause(self) -> None:
        """Hear nothing until ``go_on``; whoever has another copy of the socket may."""
        if self._socket is not None:
            self._loop.forget(self._socket)

    def go_on(self) -> None:
        """Hear again. Idempotent."""
        if self._socket is not None:
            self._loop.watch(self._socket, self._turn, writing=bool(self._waiting))

    def finish(self) -> None:
        """Hear what was still said by one who has ended, then close."""
        while self._socket is not None:
            before = self._heard_so_far
            self._read()
            if self._heard_so_far == before:
                break
        self.close()

    def close(self) -> None:
        """Hear and say no more; ``lost`` is not called. Idempotent."""
        sock, self._socket = self._socket, None
        if sock is not None:
            self._loop.forget(sock)
            sock.close()
        while self._waiting:
            messages.close_all(self._waiting.popleft()[1])

    def _end(self, why: str) -> None:
        if self._socket is not None:
            self.close()
            self._lost(why)

    def _turn(self) -> None:
        self._write()
        self._read()

    def _write(self) -> None:
        while self._waiting and self._socket is not None:
            packed, descriptors = self._waiting[0]
            try:
                messages.send_packed(self._socket, packed, descriptors)
            except BlockingIOError:
                return
            except OSError as exc:
                self._end(str(exc))
                return
            self._waiting.popleft()
            messages.close_all(descriptors)
            if not self._waiting:
                self._loop.watch(self._socket, self._turn)

    def _read(self) -> None:
        for _ in range(_MOST_IN_A_ROW):
            if self._socket is None:
                return
            try:
                found = messages.receive(self._socket)
            except BlockingIOError:
                return
            except (OSError, ValueError) as exc:
                self._end(str(exc))
                return
            if found is None:
                self._end("")
                return
            self._heard_so_far += 1
            try:
                self._heard(*found)
            except ValueError as exc:
                self._end(str(exc))
