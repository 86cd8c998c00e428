"""Where listening sockets come from: opened by this process, or by one that outlives it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from typing import Protocol

from xproxy.config.schema import ListenerConfig
from xproxy.transport.listener import open_listener


class ListenerSource(Protocol):
    """Gives listening sockets, and is told when they are not wanted any more."""

    async def open(self, config: ListenerConfig, *, single: bool) -> Sequence[socket.socket]:
        """Return the sockets of a listener, the caller's to close: its own first, then others whose queues it serves.

        ``single``: all processes that share ports have one socket for this listener. Raises ListenError.
        """
        ...

    async def release(self, config: ListenerConfig) -> bool:
        """Say that this process accepts there no more; before it closes its sockets.

        Returns whether it was the last that did: then what waits in their queues is its own to serve.
        """
        ...

    def forget(self, config: ListenerConfig) -> None:
        """Say that a listener that was opened is not used. Its sockets are closed."""
        ...

    def ended(self, config: ListenerConfig) -> None:
        """Say that a listener has ended, and that no other of this process is at its place."""
        ...


class OwnListeners:
    """Opens them here, and removes the files of Unix sockets, which outlive these."""

    async def open(self, config: ListenerConfig, *, single: bool) -> Sequence[socket.socket]:
        """See ListenerSource. Never waits."""
        return [open_listener(config.address, backlog=config.backlog, reuse_port=config.reuse_port)]

    async def release(self, config: ListenerConfig) -> bool:
        """See ListenerSource. Never waits."""
        return True

    def forget(self, config: ListenerConfig) -> None:
        """See ListenerSource."""

    def ended(self, config: ListenerConfig) -> None:
        """See ListenerSource."""
        if config.address.is_unix:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(config.address.path)
